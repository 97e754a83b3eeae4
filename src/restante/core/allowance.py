"""How much an account may do: rates a minute by endpoint, live tasks at once (contract §5.1, §12.6, §12.21), and what
it may spend and repeat (§12.30)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from restante.core import limits

Endpoint = Literal[
    "task_post",
    "live",
    "tasks_ready",
    "task_get",
    "models",
    "user_data",
    "appendix_errors",
    "status",
    "webhook_resend",
    "id_list",
    "errors",
]


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account may do, in calls a minute where nothing else is said; 0: without limit. The defaults are the
    contract's.

    `spend_per_day`: nano-dollars of the tasks posted on one UTC day. `duplicates_per_hour` and `_per_day`: how many
    identical tasks in a clock hour and a UTC day.
    """

    task_post: int = limits.RATE_TASK_POST
    live: int = limits.RATE_LIVE
    tasks_ready: int = limits.RATE_TASKS_READY
    task_get: int = 0
    models: int = 0
    user_data: int = limits.RATE_USER_DATA
    appendix_errors: int = limits.RATE_APPENDIX
    status: int = limits.RATE_APPENDIX
    webhook_resend: int = 0
    id_list: int = limits.RATE_APPENDIX
    errors: int = limits.RATE_APPENDIX
    live_at_once: int = limits.LIVE_AT_ONCE
    spend_per_day: int = 0
    duplicates_per_hour: int = 0
    duplicates_per_day: int = 0

    def rate(self, endpoint: Endpoint) -> int:
        """Calls a minute of an endpoint; 0: without limit."""
        most: int = getattr(self, endpoint)
        return most

    def with_own(self, own: Mapping[str, int]) -> Allowance:
        """This one, where an account has no limits of its own. Names that a newer restante wrote are passed over.

        An installation without rates (RESTANTE_LIMITS=relaxed, §12.25) knows none of an account's own either; what an
        account may spend and repeat is limited only where somebody asked for it, hence everywhere.
        """
        relaxed = all(not getattr(self, name) for name in LIMIT_NAMES if name not in CAP_NAMES)
        names = CAP_NAMES if relaxed else LIMIT_NAMES
        return msgspec.structs.replace(self, **{name: own[name] for name in names if name in own})


LIMIT_NAMES = Allowance.__struct_fields__
CAP_NAMES = ("spend_per_day", "duplicates_per_hour", "duplicates_per_day")
UNLIMITED = Allowance(**dict.fromkeys(LIMIT_NAMES, 0))
