"""What restante costs, measured on a real one: `make bench`, or `python -m bench [--quick]`.

Each row starts a `restante up --provider scripted` of its own on 127.0.0.1, with its embedded PostgreSQL in a
directory that is deleted afterwards. What a row is compared with runs in turn with it, round by round, on the same
database; medians and ratios are printed. This process is the only client, and shares the cores with what it measures.

    machine.py        cores, clocks of processes, their memory, fdatasync
    installation.py   a restante to measure: processes, accounts, database, audit
    client.py         HTTP over raw sockets, as cheap as Python can
    report.py         rounds, rows, targets, the table          book.py   docs/benchmarks.md, from what was measured

    accept.py         POSTs of 100 tasks, against their own SQL
    end_to_end.py     accept, run, settle, list, fetch; against the same by hand
    start.py          from a POST to the provider's call, idle
    history.py        accept and end to end after ten million tasks, against an empty database
    loading.py        such a past
    ready.py          tasks_ready where very many tasks wait, and under an old snapshot
    listed.py         end to end without task_get, and with postbacks instead
    queues.py         end to end beside Celery's and taskiq's no-ops
    live.py           live calls beside LiteLLM's proxy and Portkey's gateway
    webhooks.py       from a settlement to its postback's first byte; how many a second
    memory.py         PSS of the processes
    fairness.py       a probe beside a hundred thousand queued tasks

    backup.py         accept and claim beside a backup

    peers.py          what others are: environments of their own, in a cache outside the repository
    programs/         what runs in those environments: no-op tasks, plots
    background.py     servers of ours in processes of their own: receiver.py (hooks.py looks at it), echo.py

`make bench` is the first three with short rounds, `make bench-all` everything with full ones, `--only NAME,...` some.
`--write` puts what was measured into docs/benchmarks.md, each measurement in the place of its last one.
"""
