"""How much an account may call: rates a minute by endpoint, and live tasks at once (contract §5.1, §12.6, §12.21)."""

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
    """What an account may do, in calls a minute; 0: without limit. The defaults are the contract's."""

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

    def rate(self, endpoint: Endpoint) -> int:
        """Calls a minute of an endpoint; 0: without limit."""
        most: int = getattr(self, endpoint)
        return most

    def with_own(self, own: Mapping[str, int]) -> Allowance:
        """This one, where an account has no limits of its own. Names that a newer restante wrote are passed over."""
        return msgspec.structs.replace(self, **{name: own[name] for name in LIMIT_NAMES if name in own})


LIMIT_NAMES = Allowance.__struct_fields__
UNLIMITED = Allowance(**dict.fromkeys(LIMIT_NAMES, 0))
