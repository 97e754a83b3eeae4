"""The formats of id_list, errors and webhook_resend: requests are judged by them, results written from them (contract
§3.10-3.12)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from restante.core import limits

_MOMENT: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{2}:[0-9]{2}$"
_ID: Final = r"^[0-9]{8}-[0-9a-fA-F]{4}-[0-9]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

_Limit = Annotated[int, Meta(ge=1, le=limits.LISTED_ROWS_MAX, description="How many rows at the most.")]
_Offset = Annotated[int, Meta(ge=0, le=limits.LISTED_OFFSET_MAX, description="How many rows to leave out before them.")]


class ResendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task whose webhooks are to go out again (§3.10)."""

    id: Annotated[str, Meta(pattern=_ID, description="The task's id, as task_post answered it.")] | None = None


class IdListRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to list (§3.11)."""

    datetime_from: (
        Annotated[
            str,
            Meta(
                pattern=_MOMENT,
                description="Posted at this time or later: `yyyy-mm-dd hh:mm:ss +00:00`, six months back at the most,"
                " one month with include_metadata.",
            ),
        ]
        | None
    ) = None
    datetime_to: (
        Annotated[str, Meta(pattern=_MOMENT, description="Posted at this time or earlier; not in the future.")] | None
    ) = None
    limit: _Limit | None = None
    offset: _Offset | None = None
    sort: Annotated[Literal["asc", "desc"], Meta(description="Oldest first, or newest first.")] | None = None
    include_metadata: Annotated[bool, Meta(description="With what each task was posted with.")] | None = None


class ErrorsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which errors to list (§3.12)."""

    limit: _Limit | None = None
    offset: _Offset | None = None
    filtered_function: (
        Annotated[str, Meta(description="Only errors of this function: `pingback_url` or `postback_url`.")] | None
    ) = None
    datetime_from: (
        Annotated[
            str,
            Meta(
                pattern=_MOMENT,
                description="At this time or later: `yyyy-mm-dd hh:mm:ss +00:00`, seven days back at the most.",
            ),
        ]
        | None
    ) = None
    datetime_to: (
        Annotated[str, Meta(pattern=_MOMENT, description="At this time or earlier; not in the future.")] | None
    ) = None


class IdListRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the account, Live ones included."""

    id: str
    url: Annotated[str, Meta(description="The path it was posted to, without the leading slash.")]
    datetime_posted: str
    datetime_done: Annotated[str, Meta(description="Null while it is open.")] | None
    status: Annotated[str, Meta(description="The status code that task_get answers.")]
    cost: Annotated[int | float, Meta(description="What was finally charged, in US dollars; 0 while it is open.")]
    metadata: msgspec.Raw | UnsetType = UNSET


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to bring a webhook that failed."""

    id: str
    datetime: str
    function: Literal["pingback_url", "postback_url"]
    error_code: Annotated[int, Meta(description="The HTTP status; 0 when no answer came.")]
    error_message: Annotated[str, Meta(description="The URL that was called.")]
    http_url: str
    http_method: Literal["GET", "POST"]
    http_code: int
    http_time: Annotated[float, Meta(description="Seconds.")]
    http_response: Annotated[str, Meta(description="How the answer's body began; when no answer came, why not.")]
