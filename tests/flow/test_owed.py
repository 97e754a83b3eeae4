"""What a settlement owes by webhooks, and whose deliveries go first: rules without a database."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

from restante.core.errors import OK_MESSAGE, ProviderFailed
from restante.flow.collect import Fetched
from restante.flow.deliver import allot, with_webhooks
from restante.flow.settle import failed
from restante.store.deliveries import Kind, Waiting
from tests.flow.test_settle import RESULT, day, success

ID = "11220000-0001-0613-0000-000000000001"
REQUEST = b'{"pingback_url":"http://a/$id","postback_url":"http://b:8/?t=$tag","tag":"x y","other":1}'


def test_a_settlement_owes_what_the_task_asked_for() -> None:
    said: list[tuple[Fetched, str]] = []

    def envelope(fetched: Fetched, task_id: str) -> bytes:
        said.append((fetched, task_id))
        return b"what task_get says"

    answer = success(7, ID)
    with_hooks = with_webhooks(answer, REQUEST, envelope)
    pingback, postback = with_hooks.owed
    assert (pingback.kind, pingback.url, pingback.body) == (Kind.PINGBACK, f"http://a/{ID}", None)
    assert (postback.kind, postback.host, postback.url) == (Kind.POSTBACK, "b:8", "http://b:8/?t=x%20y")
    assert postback.body is not None and zlib.decompress(postback.body, 31) == b"what task_get says"
    assert said == [(Fetched(20000, OK_MESSAGE, REQUEST, RESULT), ID)], "packed once"
    assert with_hooks.charged == answer.charged and with_hooks.result == RESULT
    why = ProviderFailed("overloaded")
    with_webhooks(failed(7, ID, day(ID), why), REQUEST, envelope)
    assert said[1] == (Fetched(50301, why.message, REQUEST, None), ID)
    assert with_webhooks(answer, None, envelope) == answer == with_webhooks(answer, b"{}", envelope)
    assert len(said) == 2


def slots(
    waiting: Sequence[Waiting], free: int, hosts: dict[str, int], held: dict[int, int], room: int, per_account: int
) -> dict[tuple[str, int], int]:
    """What `allot` gives to each (host, account); `hosts` and `held` (by account) are in flight already."""
    given = allot(waiting, free, Counter(hosts), Counter(held), lambda host: room, per_account)
    return {(host, account): most for host, account, most in given}


def test_slots_go_to_accounts_and_hosts_evenly() -> None:
    one, other = Waiting("a", 1), Waiting("b", 2)
    assert slots([one, other], 0, {}, {}, 9, 9) == {}
    assert slots([one], 1, {}, {}, 9, 9) == {("a", 1): 1}
    assert slots([one, other], 4, {}, {1: 2}, 9, 9) == {("a", 1): 1, ("b", 2): 3}, "to who has the fewest"
    assert slots([one, Waiting("b", 1)], 4, {}, {}, 9, 9) == {("a", 1): 2, ("b", 1): 2}, "host by host"
    assert slots([one, Waiting("b", 1)], 4, {"a": 2}, {}, 9, 9) == {("a", 1): 1, ("b", 1): 3}
    assert slots([one], 9, {"a": 1}, {}, 3, 9) == {("a", 1): 2}, "no host beyond its room"
    assert slots([one], 9, {}, {1: 1}, 9, 3) == {("a", 1): 2}, "no account beyond its share"
    assert slots([one, other], 3, {"a": 9}, {2: 5}, 9, 9) == {("b", 2): 3}, "who has no room holds nobody up"
    assert slots([Waiting("a", 1, owes=True), other], 3, {}, {}, 9, 9) == {("b", 2): 3}
