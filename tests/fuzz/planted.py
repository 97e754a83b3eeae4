"""A planted bug, so that it is known that the fuzzer finds bugs: the judge breaks on a webhook's port below 100.

Nothing says so to the fuzzer: it has to keep a task that is judged to its webhook, and then to change the port.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from restante.web import judge
from restante.webhooks.address_guard import AllowList
from tests.fuzz.targets import TARGETS


class Planted(Exception):
    """What nobody declared."""


def _planted(data: bytes) -> None:
    good = judge._is_webhook_url

    def bad(url: str, allow: AllowList) -> bool:
        judged = good(url, allow)
        if judged and 0 < (urlsplit(url).port or 0) < 100:
            raise Planted(url)
        return judged

    judge._is_webhook_url = bad
    try:
        TARGETS["wire"](data)
    finally:
        judge._is_webhook_url = good


PLANTED: Final[Callable[[bytes], None]] = _planted
