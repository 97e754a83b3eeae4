"""Mistakes in the SQL of accepting, settling, holding, claiming, collecting and delivering, each of which a test finds.

Chosen by hand: what a slip of the pen could do to a promise. Left out is what only costs time: an order of locks whose
loss the deadlock detector mends, a plan's hint, a condition that another one repeats.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """`statement`.sql with each `old` replaced by its `new`; `what` it does wrong."""

    statement: str
    what: str
    changes: tuple[tuple[str, str], ...]


#: Which tests look at a statement, the likeliest first.
TESTS: dict[str, tuple[str, ...]] = {
    "accept": ("test_slips", "test_accept", "test_billing", "test_run", "test_batch", "test_collect"),
    "settle": ("test_slips", "test_settle", "test_billing", "test_live", "test_collect", "test_deliver", "test_run"),
    "hold_live": ("test_slips", "test_live", "test_billing", "test_rates", "test_pause"),
    "collect": ("test_slips", "test_collect", "test_billing", "test_deliver", "test_ready_mark"),
    "claim": ("test_slips", "test_accept", "test_settle", "test_run", "test_pause", "test_billing", "test_end"),
    "claim_deliveries": ("test_slips", "test_deliverer", "test_deliver"),
    "record_attempts": ("test_slips", "test_deliverer", "test_deliver", "test_ready_mark"),
}


def _of(statement: str, *mutants: tuple[str, str, str] | tuple[str, str, str, str, str]) -> tuple[Mutant, ...]:
    return tuple(
        Mutant(statement, what, tuple(zip(changes[::2], changes[1::2], strict=True))) for what, *changes in mutants
    )


MUTANTS: tuple[Mutant, ...] = (
    *_of(
        "accept",
        (
            "the credit limit is forgotten",
            "p.balance + p.credit_limit as funds",
            "p.balance + 0 * p.credit_limit as funds",
        ),
        ("the account is not locked", "where id = $1 for no key update", "where id = $1"),
        ("the last nano-dollar cannot be spent", "i.running <= r.funds", "i.running < r.funds"),
        ("the cap's last nano-dollar cannot be spent", "i.running <= r.cap)", "i.running < r.cap)"),
        ("all or nothing", "sum(u.held) over (order by u.ord) as running", "sum(u.held) over () as running"),
        ("each task is looked at alone", "sum(u.held) over (order by u.ord) as running", "u.held as running"),
        ("the ledger does not hear of the hold", "0, 0, $3 from total", "0, 0, $3 from total where false"),
        (
            "held twice",
            "balance = a.balance - t.held, held = a.held + t.held",
            "balance = a.balance - 2 * t.held, held = a.held + 2 * t.held",
        ),
        ("a late clock takes the day back", "today = greatest(a.today, $2)", "today = $2"),
        ("a late clock's hold counts for the day", "case when a.today > $2 then 0 else t.held end", "t.held"),
        (
            "yesterday's sum stays",
            "case when a.today >= $2 then a.today_posted else 0 end",
            "a.today_posted",
        ),
        (
            "yesterday's live sum stays",
            "today_live = case when a.today >= $2 then a.today_live else 0 end",
            "today_live = a.today_live",
        ),
        (
            "a cap knows no day",
            "case when p.today > $2 then $11::bigint when p.today = $2 then p.spent else 0 end",
            "p.spent",
        ),
        ("a late clock has its whole cap again", "when p.today > $2 then $11::bigint when", "when"),
        ("the cap of all counts yesterday", "$12::bigint > 0 and today >= $2", "$12::bigint > 0"),
        (
            "the cap of all knows no live tasks",
            "sum(today_posted + today_live), 0) as spent",
            "sum(today_posted), 0) as spent",
        ),
        (
            "an account's cap knows no live tasks",
            "today_posted + today_live as spent from account",
            "today_posted as spent from account",
        ),
        (
            "a POST that fits is said to be capped",
            "i.ord = n + 1 and i.running > r.cap",
            "i.ord = n and i.running >= r.cap",
        ),
        (
            "a cap is said to be missing funds",
            "i.ord = n + 1 and i.running > r.cap",
            "i.ord = n + 1 and i.running < r.cap",
        ),
        (
            "the request is lost",
            "select $2, id, request from covered",
            "select $2, id, request from covered where false",
        ),
        ("the tag is lost", "held, $3, tag, lane from covered", "held, $3, null, lane from covered"),
        ("an account's second POST overtakes", "greatest(t.next + excluded.step, excluded.next)", "excluded.next"),
        ("who comes late is served before all others", "coalesce(l.turn, 0) + k.n", "k.n"),
        ("a POST's tasks share one turn", "row_number() over (partition by c.lane order by c.ord)", "1"),
        ("nothing gathers for a batch", "case when c.gather is null then 0 else 1 end", "0"),
        ("what gathers is of no batch", "case when c.gather is not null then 0 end", "null"),
    ),
    *_of(
        "settle",
        (
            "any worker's token settles",
            "q.id = i.id and q.token = $1",
            "q.id = i.id and $1 <> 0",
            "q.ctid = i.tid and q.token = $1",
            "q.ctid = i.tid",
        ),
        (
            "nothing is charged",
            "balance = a.balance + o.held - o.charged",
            "balance = a.balance + o.held",
            "spent = a.spent + o.charged",
            "spent = a.spent",
        ),
        (
            "the hold stays",
            "balance = a.balance + o.held - o.charged, held = a.held - o.held",
            "balance = a.balance - o.charged, held = a.held",
        ),
        ("the account does not hear of it", "where a.id = o.account_id and a.id = any", "where false and a.id = any"),
        ("the ledger does not hear of it", "charged, 0, $9 from mine", "charged, 0, $9 from mine where false"),
        ("the ledger charges the whole hold", "held - charged, -held, charged", "0, -held, held"),
        (
            "an old task changes today",
            "case when a.today = $2 then o.charged - o.held - o.live else 0 end",
            "o.charged - o.held - o.live",
        ),
        ("an old live task changes today", "case when a.today = $2 then o.live else 0 end", "o.live"),
        ("today forgets the charge", "then o.charged - o.held - o.live", "then - o.held - o.live"),
        ("every task counts as live", "filter (where lane = 0)", ""),
        ("the task does not end", "where t.day = $2 and t.ctid = m.tid", "where t.day = $2 and false"),
        ("the task's charge is not noted", "charged = m.charged", "charged = 0"),
        ("the task's tries are not noted", "attempts = m.attempts", "attempts = 0"),
        (
            "a live answer is kept",
            "seq, code, message, body, trail from mine where lane <> 0",
            "seq, code, message, body, trail from mine",
        ),
        ("the answer is lost", "body, trail from mine where lane <> 0", "body, trail from mine where false"),
        ("the provider's reply is lost", "lane <> 0 and raw is not null", "false"),
        ("the day of the prices is lost", "raw, price_date from mine", "raw, null from mine"),
        ("a live task is listed", "where lane <> 0 and not (id = any", "where not (id = any"),
        (
            "a task with a postback is listed at once",
            "(select id from owed where kind = 2)",
            "(select id from owed where false)",
        ),
        ("a task with a pingback is not listed", "(select id from owed where kind = 2)", "(select id from owed)"),
        ("nothing is listed", "where lane <> 0 and not (id = any", "where false and not (id = any"),
        ("the webhooks are lost", "on o.id = m.id where m.lane <> 0", "on o.id = m.id where false"),
        (
            "an account hears of others' webhooks",
            "from mine m join owed o on o.id = m.id",
            "from mine m join owed o on true",
        ),
    ),
    *_of(
        "hold_live",
        ("a dead lease holds money", "where exists (select from me) and", "where"),
        ("any worker's lease will do", "select token from worker where token = $1", "select token from worker"),
        ("the accounts are not locked", "order by id for no key update", "order by id"),
        ("a paused account goes on", "p.id = a.account_id where p.paused", "p.id = a.account_id where false"),
        (
            "a paused model goes on",
            "a.id not in (select id from blocked) and a.id not in (select id from halted)",
            "a.id not in (select id from blocked)",
        ),
        ("a paused model pauses the provider's others", "and l.model = a.model and l.paused", "and l.paused"),
        ("nobody is counted as at work", "then live_at_work(p.id) else 0 end", "then 0 else 0 end"),
        ("one live task too few", "b.at_work + i.nth > i.most", "b.at_work + i.nth >= i.most"),
        ("a group counts as one", "b.at_work + i.nth > i.most", "b.at_work + 1 > i.most"),
        (
            "the last nano-dollar cannot be spent",
            "x.running <= p.balance + p.credit_limit",
            "x.running < p.balance + p.credit_limit",
        ),
        ("the credit limit is forgotten", "x.running <= p.balance + p.credit_limit", "x.running <= p.balance"),
        ("a metered account has a limit", "p.credit_limit is null or x.running", "x.running"),
        ("the cap's last nano-dollar cannot be spent", "x.running <= x.cap - case", "x.running < x.cap - case"),
        (
            "a late clock has its whole cap again",
            "case when p.today > $2 then x.cap when p.today = $2",
            "case when p.today = $2",
        ),
        (
            "a cap knows no day",
            "case when p.today > $2 then x.cap when p.today = $2 then p.spent else 0 end",
            "p.spent",
        ),
        (
            "each task is looked at alone",
            "sum(i.held) over (partition by i.account_id order by i.ord) as running",
            "i.held as running",
        ),
        (
            "an account's tasks cost others",
            "over (partition by i.account_id order by i.ord) as running",
            "over (order by i.ord) as running",
        ),
        (
            "the cap of all has its last nano-dollar left",
            "total <= $13::bigint - (select",
            "total < $13::bigint - (select",
        ),
        ("the cap of all counts yesterday", "$13::bigint > 0 and today >= $2", "$13::bigint > 0"),
        (
            "the cap of all knows no posted tasks",
            "coalesce(sum(today_posted + today_live), 0)",
            "coalesce(sum(today_live), 0)",
        ),
        ("a late clock takes the day back", "today = greatest(a.today, $2)", "today = $2"),
        ("yesterday's live sum stays", "case when a.today >= $2 then a.today_live else 0 end", "a.today_live"),
        (
            "yesterday's sum stays",
            "today_posted = case when a.today >= $2 then a.today_posted else 0 end",
            "today_posted = a.today_posted",
        ),
        ("the ledger does not hear of the hold", "0, 0, $3 from covered", "0, 0, $3 from covered where false"),
        ("nobody leases it", "held, $3, $1, 1 from covered", "held, $3, null, 1 from covered"),
        (
            "a cap is said to be missing funds",
            "select id from judged where not within",
            "select id from judged where false",
        ),
        (
            "the cap of all is said to be missing funds",
            "select id from able where id not in (select id from covered)",
            "select id from able where false",
        ),
    ),
    *_of(
        "collect",
        ("anybody's answer can be fetched", "a.id = w.id and a.account_id = w.account_id", "a.id = w.id"),
        ("an account at its limit is a debtor", "c.balance < -c.credit_limit", "c.balance <= -c.credit_limit"),
        ("nobody is a debtor", "(c.balance < -c.credit_limit) is true", "false"),
        (
            "a metered account is a debtor",
            "(c.balance < -c.credit_limit) is true",
            "(c.balance < -coalesce(c.credit_limit, 0)) is true",
        ),
        ("a withheld body leaves", "case when not g.withheld then g.body end", "g.body"),
        ("a withheld answer is listed no more", "where not g.withheld and r.account_id", "where r.account_id"),
        ("a withheld answer counts as collected", "where not g.withheld and d.task_id", "where d.task_id"),
        ("a fetched task stays listed", "r.platform = $4 and r.seq = g.seq", "r.platform = $4 and false"),
        ("another task is taken off", "r.platform = $4 and r.seq = g.seq", "r.platform = $4"),
        ("the postback is not told", "d.kind = 2 and not d.collected limit 1", "false limit 1"),
        ("the pingback is told instead", "d.kind = 2 and not d.collected", "d.kind = 1 and not d.collected"),
        ("the answer's request is another's", "r.day = $1 and r.id = w.id limit 1", "r.day = $1 limit 1"),
    ),
    *_of(
        "claim",
        ("a dead lease claims", "and exists (select from me)", ""),
        ("any worker's lease will do", "where token = $1 for key share", "for key share"),
        ("what is leased is leased again", "where q.state = 0 and q.lane = $2", "where q.state <> 1 and q.lane = $2"),
        ("what is parked is claimed", "where q.state = 0 and q.lane = $2", "where q.state <> 2 and q.lane = $2"),
        ("another lane's tasks are claimed", "q.state = 0 and q.lane = $2 and", "q.state = 0 and"),
        ("two workers claim one task", "limit $3 for update skip locked\n), waiting", "limit $3\n), waiting"),
        ("a paused model goes on", "where id = $2 and paused", "where false"),
        ("one account's tasks first", "order by q.turn, q.id limit $3", "order by q.id limit $3"),
        ("claims more than it may", "limit $3 for update", "limit 1000 for update"),
        ("an account at its limit is a debtor", "a.balance < -a.credit_limit", "a.balance <= -a.credit_limit"),
        ("a debtor's tasks go on", "(a.balance < -a.credit_limit or a.paused)", "a.paused"),
        ("a paused account goes on", "(a.balance < -a.credit_limit or a.paused)", "a.balance < -a.credit_limit"),
        ("a debtor's tasks wake by themselves", "run_at = 'infinity'", "run_at = now()"),
        ("calls are not counted", "attempts = least(q.attempts + 1, 32767)", "attempts = q.attempts"),
        ("calls beyond 32,767 break it", "least(q.attempts + 1, 32767)", "q.attempts + 1"),
        (
            "the lane's turn stands still",
            "for update skip locked) and l.turn < p.turn",
            "for update skip locked) and false",
        ),
        ("the lane's turn goes back", "for update skip locked) and l.turn < p.turn", "for update skip locked)"),
    ),
    *_of(
        "claim_deliveries",
        ("a dead lease claims", "and exists (select from me)", ""),
        ("any worker's lease will do", "where token = $1 for key share", "for key share"),
        ("what is leased is leased again", "where d.state = 0 and", "where d.state in (0, 2) and"),
        ("what is parked is sent at once", "where d.state = 0 and", "where d.state in (0, 1) and"),
        ("another host's are claimed", "d.host = w.host and d.account_id", "d.account_id"),
        ("another account's are claimed", "d.account_id = w.account_id and exists", "exists"),
        ("claims more than it may", "limit w.most for update", "limit 1000 for update"),
        ("the last one first", "order by d.id limit", "order by d.id desc limit"),
        ("two workers claim one delivery", "limit w.most for update skip locked", "limit w.most"),
    ),
    *_of(
        "record_attempts",
        (
            "any worker's token records",
            "where d.id = i.id and d.state = 2 and d.token = $1",
            "where d.id = i.id and d.state = 2 and $1 <> 0",
        ),
        ("a success is tried again", "when i.error is null then 3 when", "when i.error is null then 1 when"),
        ("it is never given up", "when i.pause is null then 4 else 1 end", "else 1 end"),
        ("one failure ends it", "when i.pause is null then 4 else 1 end", "else 4 end"),
        ("a resent one's last failure ends it", "when d.attempts < i.before then 1 when i.pause", "when i.pause"),
        ("a resent one waits as if it were not", "when d.attempts < i.before then now()", "when false then now()"),
        ("it is tried again at once", "else now() + make_interval(secs => i.pause)", "else now()"),
        ("attempts are not counted", "attempts = d.attempts + 1", "attempts = d.attempts"),
        ("the lease stays", "token = null, attempts", "token = d.token, attempts"),
        (
            "bodies are kept for ever",
            "body = case when i.error is null or (i.pause is null and d.attempts >= i.before) then null",
            "body = case when false then null",
        ),
        (
            "the body is gone for the next attempt",
            "(i.pause is null and d.attempts >= i.before)",
            "i.pause is not null",
        ),
        ("a resent one's body is gone", "(i.pause is null and d.attempts >= i.before)", "i.pause is null"),
        ("attempts are not shown", "url end\n    from mine", "url end\n    from mine where false"),
        ("an error hides its URL", "case when error is not null then url end", "null"),
        (
            "a failed pingback lists its task",
            "where kind = 2 and error is not null and attempts = 1 and not collected\n    on",
            "where error is not null and attempts = 1 and not collected\n    on",
        ),
        (
            "a success lists its task",
            "where kind = 2 and error is not null and attempts = 1 and not collected\n    on",
            "where kind = 2 and attempts = 1 and not collected\n    on",
        ),
        (
            "every failure lists its task",
            "error is not null and attempts = 1 and not collected\n    on",
            "error is not null and not collected\n    on",
        ),
        ("a failure lists what was fetched", "attempts = 1 and not collected\n    on", "attempts = 1\n    on"),
        (
            "a failure lists nothing",
            "where kind = 2 and error is not null and attempts = 1 and not collected\n    on",
            "where false\n    on",
        ),
        ("what is still listed breaks it", "    on conflict do nothing -- a resent one's, still listed\n", ""),
        ("the mark stays above a late listing", "set seq = least(m.seq, (select", "set seq = greatest(m.seq, (select"),
        ("a mark being moved does not notice", "version = m.version + 1", "version = m.version"),
        ("a delivered one stays listed", "where m.kind = 2 and m.error is null and", "where false and"),
        ("a failure takes it off", "m.kind = 2 and m.error is null and r.account_id", "m.kind = 2 and r.account_id"),
        (
            "a pingback takes it off",
            "m.kind = 2 and m.error is null and r.account_id",
            "m.error is null and r.account_id",
        ),
    ),
)
