"""Everything that can go wrong, as one tree; each error a client may see knows its status code and message.

    RestanteError
    ├── Refusal                     an answer of the contract (§2.2), for one task or a whole call
    │   ├── TooManyLiveTasks        40000
    │   ├── ForeignTask             40001
    │   ├── OtherFunction           40004
    │   ├── TooManyTasks            40006
    │   ├── Unauthorized            40100
    │   ├── TaskFailed              40103
    │   ├── PaymentRequired         40200
    │   ├── AccountPaused           40201
    │   ├── RateExceeded            40202
    │   ├── CapReached              40203
    │   ├── DuplicatesPerHour       40205
    │   ├── DuplicatesPerDay        40206
    │   ├── TooManyAtOnce           40209
    │   ├── InsufficientFunds       40210
    │   ├── NotFound                40400
    │   ├── TaskNotFound            40401
    │   ├── InvalidPath             40402
    │   ├── ResultsExpired          40403
    │   ├── InvalidField            40501
    │   ├── EmptyBody               40502
    │   ├── InvalidBody             40503
    │   ├── UnknownField            40506
    │   ├── TaskHanded              40601
    │   ├── TaskInQueue             40602
    │   ├── InternalError           50000
    │   ├── ProviderFailed          50301
    │   ├── ModelPaused             50303
    │   └── LiveTimeout             50401
    └── OperatorError               for whoever runs restante: what is wrong and how to mend it

A `Refusal` is often a value rather than an exception: judging a task *returns* it, so that one bad task never
disturbs its 99 neighbours. Five-digit codes stand here and in restante.web.wire, nowhere else.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from restante.core.limits import TASKS_PER_POST

OK_CODE = 20000
OK_MESSAGE = "Ok."
CREATED_CODE = 20100
CREATED_MESSAGE = "Task Created."
ERROR_CODES_FROM = 40000  # contract §12.4: tasks_error counts every task whose code is at least this


_DETAIL: Final = re.compile(r":? ?[(']?\{\}[)']?")


class RestanteError(Exception):
    """The root: catching it catches everything restante raises on purpose."""


class Refusal(RestanteError):
    """A status code of the contract other than success, with its message."""

    code: ClassVar[int]
    template: ClassVar[str]

    @classmethod
    def general(cls) -> str:
        """The message as the code book has it, without any one case's detail."""
        return _DETAIL.sub("", cls.template)

    def __init__(self, detail: str = "") -> None:
        self.message = self.template.format(detail) if "{}" in self.template else self.template
        super().__init__(f"{self.code} {self.message}")


class TooManyLiveTasks(Refusal):
    code = 40000
    template = "You can set only one task at a time."


class ForeignTask(Refusal):
    code = 40001
    template = "This id is used by another client, check the id."


class OtherFunction(Refusal):
    code = 40004
    template = "This id is used by another function, check the id."


class TooManyTasks(Refusal):
    """`TooManyTasks("100")`: how many a POST may hold."""

    code = 40006
    template = "You can set no more than {} tasks at a time."

    @classmethod
    def general(cls) -> str:
        return cls.template.format(TASKS_PER_POST)


class Unauthorized(Refusal):
    code = 40100
    template = (
        "You are not Authorized to Access this Resource. "
        "Your Login Information Here: https://app.dataforseo.com/login ."
    )


class TaskFailed(Refusal):
    """Ended without an answer: cancelled, or not done within its deadline. `TaskFailed("cancelled")`."""

    code = 40103
    template = "Task execution failed, please try to resubmit the task. ({})"


class PaymentRequired(Refusal):
    code = 40200
    template = "Payment Required."


class AccountPaused(Refusal):
    """The operator paused the account (the original's words are unknown, §2.2): live tasks are refused."""

    code = 40201
    template = "The account is temporarily blocked. Its queued tasks wait until it is resumed."


class RateExceeded(Refusal):
    """`RateExceeded("20 >= 20")`: calls of this minute, and the limit (contract §12.6)."""

    code = 40202
    template = "The rates limit per minute has been exceeded: {}."


class CapReached(Refusal):
    """The task's hold would pass a daily cap, the account's or the installation's (contract §12.30)."""

    code = 40203
    template = "The daily cost limit has been exceeded."


class DuplicatesPerHour(Refusal):
    """`DuplicatesPerHour("3 >= 3")`: such tasks accepted in this clock hour, and the limit."""

    code = 40205
    template = "The limit of duplicate tasks per hour has been exceeded: {}."


class DuplicatesPerDay(Refusal):
    """The same of this UTC day."""

    code = 40206
    template = "The limit of duplicate tasks per day has been exceeded: {}."


class TooManyAtOnce(Refusal):
    """`TooManyAtOnce("30 >= 30")`: live tasks at work, and the limit. The original's words are unknown (§2.2)."""

    code = 40209
    template = "The limit of simultaneous queries has been exceeded: {}."


class InsufficientFunds(Refusal):
    code = 40210
    template = "Insufficient Funds."


class NotFound(Refusal):
    code = 40400
    template = "Not Found."


class TaskNotFound(Refusal):
    code = 40401
    template = "Task Not Found."


class InvalidPath(Refusal):
    code = 40402
    template = "Invalid Path."


class ResultsExpired(Refusal):
    """The task is known, its answer was kept as long as answers are kept."""

    code = 40403
    template = "Results Expired."


class InvalidField(Refusal):
    """The field is known, its value is not acceptable. `InvalidField("user_prompt")`."""

    code = 40501
    template = "Invalid Field: '{}'."


class EmptyBody(Refusal):
    code = 40502
    template = "POST Data Is Empty."


class InvalidBody(Refusal):
    code = 40503
    template = "POST Data Is Invalid."


class UnknownField(Refusal):
    """`UnknownField("promt")`: no platform knows the field (contract §12.9)."""

    code = 40506
    template = "Unknown Fields in POST Data: '{}'."


class TaskHanded(Refusal):
    """Not an error of anybody's: the task is running."""

    code = 40601
    template = "Task Handed."


class TaskInQueue(Refusal):
    code = 40602
    template = "Task In Queue."


class InternalError(Refusal):
    code = 50000
    template = "Internal Error."


class ProviderFailed(Refusal):
    """`ProviderFailed("overloaded")`: the model's provider gave no answer, for the reason in brackets."""

    code = 50301
    template = "3rd Party API Service Unavailable ({})."


class ModelPaused(Refusal):
    """The operator paused the model: live tasks are refused, queued ones wait."""

    code = 50303
    template = "Update in progress. Please try after a few minutes."


class LiveTimeout(Refusal):
    code = 50401
    template = "Internal Error - Timeout."


class OperatorError(RestanteError):
    """restante cannot go on as configured. Says what is wrong and, on a second line, how to mend it."""

    exit_code: ClassVar[int] = 1  # of the command that says it

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)


# Documented codes that restante never answers (contract §2.2). Clients use appendix/errors as a code book, hence they
# stand in it: some because what they tell does not exist here, some because another code tells it.
_NEVER_ANSWERED: Final = {
    40002: "This id is used by another search engine, check the Path.",
    40003: "This id is used by another search type, check the Path.",
    40101: "Internal SE Server Error.",
    40102: "No Search Results.",
    40104: "Please verify your account before using the API.",
    40106: "Task completed with partial results.",
    40201: "The account is temporarily blocked.",
    40204: "Access denied: no subscription.",
    40207: "Access denied. Your IP is not whitelisted.",
    40404: "No Prepared Data Found.",
    40505: "You are using old data.",
    50001: "Error While Checking the Balance.",
    50100: "Not Implemented.",
    50302: "Internal 3rd Party API Service Unavailable.",
    50303: "Update in progress. Please try after a few minutes.",
    50304: "This function temporarily unavailable.",
}


def code_book() -> list[tuple[int, str]]:
    """Every status code of the family with its message, in order: what appendix/errors lists (contract §3.8)."""
    said = {one.code: one.general() for one in Refusal.__subclasses__()}
    return sorted({OK_CODE: OK_MESSAGE, CREATED_CODE: CREATED_MESSAGE, **_NEVER_ANSWERED, **said}.items())
