"""What restante costs, measured on a real one: `make bench`, or `python -m bench [--quick]`.

Each row starts a `restante up --provider scripted` of its own on 127.0.0.1, with its embedded PostgreSQL in a
directory that is deleted afterwards. What a row is compared with runs in turn with it, round by round, on the same
database; medians and ratios are printed. This process is the only client, and shares the cores with what it measures.

    machine.py        cores, clocks of processes, fdatasync
    installation.py   a restante to measure: processes, accounts, database, audit
    client.py         HTTP over raw sockets, as cheap as Python can
    accept.py         POSTs of 100 tasks, against their own SQL
    end_to_end.py     accept, run, settle, list, fetch; against the same by hand
    start.py          from a POST to the provider's call, idle
    history.py        accept and end to end after ten million tasks, against an empty database
    loading.py        such a past
    ready.py          tasks_ready where very many tasks wait, and under an old snapshot
"""
