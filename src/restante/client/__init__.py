"""A small asynchronous client of restante, for programs that do not have DataForSEO's already (docs/client.md).

    from restante.client import Client, Task

    async with Client("http://127.0.0.1:8000", "operator", password) as client:
        posted = await client.post(Task(user_prompt=prompt, model_name="gemini-2.5-flash") for prompt in prompts)
        async for entry in client.answers(posted):
            print(entry.id, entry.text if entry.answered else entry.status_message)

It posts any number of tasks, buys none of them twice, keeps to the server's rates and outlives its restarts. Nothing of
the server is imported; aiohttp is, when a `Client` is entered.
"""

from restante.client.calls import Client
from restante.client.errors import (
    ClientError,
    NotRestante,
    PaymentRequired,
    RateExceeded,
    Refused,
    TaskFailed,
    Unreachable,
    WrongPassword,
)
from restante.client.values import (
    Annotation,
    Entry,
    Item,
    ListedTask,
    Message,
    Model,
    ReadyTask,
    Result,
    Section,
    Task,
)
from restante.client.webhooks import Delivery, Receiver, verify

__all__ = [
    "Annotation",
    "Client",
    "ClientError",
    "Delivery",
    "Entry",
    "Item",
    "ListedTask",
    "Message",
    "Model",
    "NotRestante",
    "PaymentRequired",
    "RateExceeded",
    "ReadyTask",
    "Receiver",
    "Refused",
    "Result",
    "Section",
    "Task",
    "TaskFailed",
    "Unreachable",
    "WrongPassword",
    "verify",
]
