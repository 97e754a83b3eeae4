"""Why a mutant of a Python module survives: what it changes makes no difference that a client, an account or an
operator could see. Anything else that survives is a gap in the tests."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """A mutant is this one if it is of the `function` and the lines it adds are `added` (blanks at both ends aside)."""

    function: str
    added: str
    why: str


def _all(why: str, *mutants: tuple[str, str]) -> tuple[Explained, ...]:
    return tuple(Explained(function, added, why) for function, added in mutants)


EXPLAINED: tuple[Explained, ...] = (
    *_all(
        "Only the words of a log line, or of an error that cannot happen, are others.",
        ("Acceptor._accept", "raise AssertionError(None)"),
        ("Acceptor._accept", 'raise AssertionError("XXunreachableXX")'),
        ("Acceptor._accept", 'raise AssertionError("UNREACHABLE")'),
        ("Deliverer._ended", "if error is None:"),
        ("Deliverer._deliver", "then = None"),
        ("Deliverer._deliver", 'then = "given up" if (pause is None) or True else f"next attempt in {pause:.0f} s"'),
        ("Deliverer._deliver", 'then = "XXgiven upXX" if pause is None else f"next attempt in {pause:.0f} s"'),
        ("Deliverer._deliver", 'then = "GIVEN UP" if pause is None else f"next attempt in {pause:.0f} s"'),
        ("Deliverer._deliver", "if await self._groups.submit(token, attempt):"),
    ),
    *_all(
        "Python's decimals round half to even unless told otherwise, and we never do.",
        ("nano", "return Nano(int((usd * NANO_PER_USD).to_integral_value(None)))"),
    ),
    *_all(
        "`rstrip` takes a set of characters, and X is no digit.",
        ("show_usd", 'places = f"{rest:09d}".rstrip("XX0XX").ljust(2, "0")'),
    ),
    *_all(
        "`strict` guards against a mistake of ours: the lists are of one length by construction.",
        ("Acceptor._accept", "for task_id, lane, one in zip(ids, lanes, judged, strict=None)"),
        ("Acceptor._accept", "for task_id, lane, one in zip(ids, lanes, judged, )"),
        ("Acceptor._accept", "for task_id, lane, one in zip(ids, lanes, judged, strict=False)"),
        ("Acceptor._judge", "for place, fate in zip(fresh, covered, strict=None):"),
        ("Acceptor._judge", "for place, fate in zip(fresh, covered, ):"),
        ("Acceptor._judge", "for place, fate in zip(fresh, covered, strict=False):"),
    ),
    *_all(
        "The same by a longer way: a statement or a look that finds nothing to do.",
        (
            "Acceptor._take",
            "fates = await self._judge(tx, account_id, now, orders, allowance) if (orders) or True else []",
        ),
        (
            "Settler._settled_before",
            "ends = await queue.ends(self._db, day, [one.id for one in members]) if (members) or True else {}",
        ),
        ("Deliverer._claim", "return 1"),
    ),
    *_all(
        "`run` doubts the lease after every look that broke, and one that is cancelled ends with its lease.",
        ("Deliverer._claim", "self._lease.drop(token, one.id, )"),
        ("Deliverer._claim", "self._lease.drop(token, one.id, doubtful=False)"),
    ),
    *_all(
        "None and False are both no: nobody looks which.",
        ("Deliverer.run", "more = None"),
    ),
    *_all(
        "gzip says the same at any level and of any time; the signature is over what is unpacked.",
        ("owed", "body = gzip.compress(envelope(), 1, mtime=None)"),
        ("owed", "body = gzip.compress(envelope(), mtime=0)"),
        ("owed", "body = gzip.compress(envelope(), 1, )"),
        ("owed", "body = gzip.compress(envelope(), 2, mtime=0)"),
        ("owed", "body = gzip.compress(envelope(), 1, mtime=1)"),
    ),
    *_all(
        "A copy that owes nothing instead of the settlement that owes nothing.",
        (
            "with_webhooks",
            "return msgspec.structs.replace(settlement, owed=hooks) if (hooks) or True else settlement",
        ),
    ),
    *_all(
        "The second argument spreads a pause; here only whether there is one is asked.",
        (
            "Deliverer._deliver",
            "if next_pause(delivery.attempts + 1, 1.5) is None or not self._breaker.gives_up(delivery.host):",
        ),
    ),
    *_all(
        "32 bytes are what `token_bytes` gives without being told.",
        (
            "Deliverer._claim",
            "live = await deliveries.secrets(self._db, {one: secrets.token_bytes(None) for one in accounts})",
        ),
    ),
    *_all(
        "Half of a whole number of slots is compared with whole numbers.",
        (
            "Deliverer._round",
            "lambda host: self._breaker.room(host, self._per_host), "
            "max(1, self._concurrency / DELIVERY_ACCOUNT_SHARE),",
        ),
    ),
)
