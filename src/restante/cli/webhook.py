"""`restante webhook`: a receiver to look at webhooks with, and a signed sample for a receiver of one's own."""

from __future__ import annotations

import asyncio
import gzip
import secrets as random
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restante.cli.common import print_json, print_json_lines, quiet_settings, with_database
from restante.cli.text import say, visible
from restante.core.errors import OperatorError
from restante.core.limits import RECEIVER_SHOWN_CHARS

if TYPE_CHECKING:
    from restante.client import Delivery, Receiver

app = typer.Typer(help="Webhooks: receive and verify them here, send a sample there.", no_args_is_help=True)

Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", envvar="RESTANTE_WEBHOOK_SECRET", help="whsec_... of the account; several while one is rotated."
    ),
]
Account = Annotated[
    str | None, typer.Option(help="Take the secrets of this account, by its login, from this installation.")
]


def _known(secret: list[str] | None, account: str | None) -> list[str]:
    if account is None:
        return list(secret or ())
    from restante.flow import accounts

    return with_database(lambda db: accounts.webhook_secrets(db, account, rotate=False))


@app.command(epilog="Example: restante webhook listen --account operator --status 500")
def listen(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8900,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    secret: Secrets = None,
    account: Account = None,
    status: Annotated[int, typer.Option(min=100, max=599, help="What deliveries are answered with.")] = 200,
    fail_first: Annotated[
        int, typer.Option(min=0, help="Answer so many with --status (500 by default), then 200: to see them again.")
    ] = 0,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: go on until Ctrl-C.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one delivery a line.")] = False,
) -> None:
    """Receive webhooks here: print each, and whether it was signed with the account's secret.

    restante calls loopback addresses only where its operator names them: RESTANTE_WEBHOOK_ALLOW=127.0.0.1.
    Exit code 3 with --count: a signature was wrong.
    """
    known = _known(secret, account)
    failing = 500 if fail_first and status == 200 else status
    came = 0

    def answered(delivery: Delivery) -> int:
        nonlocal came
        came += 1
        return failing if not fail_first or came <= fail_first else 200

    raise typer.Exit(asyncio.run(_listen(host, port, known, answered, count=count, json=json)))


async def _listen(host: str, port: int, known: list[str], status: Any, *, count: int, json: bool) -> int:
    from restante.cli.connect import SOME_FAILED
    from restante.client import Receiver

    try:
        receiver = Receiver(host, port, secrets=known, status=status)
    except ValueError as error:
        raise OperatorError(f"A secret cannot be used: {error}.") from None
    try:
        async with receiver:
            _greet(receiver, verifies=bool(known))
            told, wrong = 0, False
            while not count or told < count:
                delivery = await receiver.next()
                _show(delivery, json=json)
                told += 1
                wrong = wrong or delivery.verified is False
            return SOME_FAILED if wrong else 0
    except OSError as error:
        raise OperatorError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.", "Another one: --port, --host."
        ) from None


def _greet(receiver: Receiver, *, verifies: bool) -> None:
    say(f"listening at {receiver.url}")
    say(f"  post tasks with  postback_url {receiver.postback_url}")
    say(f"               or  pingback_url {receiver.pingback_url}")
    if not verifies:
        say("  signatures are not verified: give --secret, or --account on the server's own machine")
    sys.stderr.flush()


def _show(delivery: Delivery, *, json: bool) -> None:
    entry = delivery.entry
    signature = {True: "verified", False: "WRONG SIGNATURE", None: "not verified"}[delivery.verified]
    if json:
        print_json_lines(
            [
                {
                    "method": delivery.method,
                    "path": delivery.path,
                    "webhook_id": delivery.webhook_id,
                    "signature": signature.lower(),
                    "answered": delivery.answered,
                    "id": delivery.task_id,
                    "entry": entry,
                }
            ]
        )
    else:
        at = time.strftime("%H:%M:%S")
        what = "" if entry is None else f"  {entry.status_code} {entry.status_message}"
        called = visible(f"{delivery.method} {delivery.path}  {delivery.webhook_id}{what}")
        print(f"{at}  {signature}, answered {delivery.answered}  {called}")
        if entry is not None and entry.text:
            text = entry.text
            print(f"          {visible(text[:RECEIVER_SHOWN_CHARS])}{'…' * (len(text) > RECEIVER_SHOWN_CHARS)}")
    sys.stdout.flush()


@app.command(epilog="Example: restante webhook test https://hooks.example.org/answers --account operator")
def test(
    url: Annotated[str, typer.Argument(help="Where to; $id and $tag are replaced as in a task's.")],
    secret: Secrets = None,
    account: Account = None,
    pingback: Annotated[bool, typer.Option("--pingback", help="A GET without a body, as a pingback is.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send a sample postback, signed, the way real ones go: one attempt of ten seconds, the same guard and proxy.

    Nothing is recorded. Exit code 1: the receiver did not answer 200 to 300. Without a secret one is made and shown.
    """
    known = _known(secret, account)
    if not known:
        from restante.webhooks.signature import SECRET_BYTES, show_secret

        known = [show_secret(random.token_bytes(SECRET_BYTES))]
        say(f"signed with {known[0]}, made for this sample")
    outcome, sent_to = asyncio.run(_send(url, known, pingback=pingback))
    if json:
        print_json(outcome)
    else:
        print(f"{visible(sent_to)}")
        answered = "no answer" if outcome["status"] is None else f"HTTP {outcome['status']}"
        print(f"  {answered} after {outcome['milliseconds']} ms")
        if outcome["error"]:
            print(f"  {visible(outcome['error'])}")
        for line in visible(outcome["reply"], lines=True).split("\n") if outcome["reply"] else ():
            print(f"  | {line}")
    raise typer.Exit(1 if outcome["error"] else 0)


async def _send(url: str, known: list[str], *, pingback: bool) -> tuple[dict[str, Any], str]:
    import base64

    from restante.web import examples
    from restante.web.wire import FAMILY_PATH, entry, envelope
    from restante.webhooks.address_guard import AllowList
    from restante.webhooks.sender import Sender
    from restante.webhooks.signature import PREFIX, sign
    from restante.webhooks.target import target

    if not url.lower().startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no http or https address")
    import msgspec

    settings = quiet_settings()
    task_id, request = examples.TASK_ID, msgspec.json.encode(examples.TASK)
    result = msgspec.json.encode([examples.ANSWER])
    path = (*FAMILY_PATH, "task_get", task_id)
    body = (
        b"" if pingback else envelope([entry(task_id, path, request=request, result=result, result_count=1)], elapsed=0)
    )
    try:
        keys = [base64.b64decode(one.removeprefix(PREFIX), validate=True) for one in known]
    except ValueError as error:
        raise OperatorError(f"A secret cannot be used: {error}.", "It is whsec_... as shown.") from None
    _, sent_to = target(url, task_id, str(examples.TASK["tag"]))
    sender = Sender(AllowList(settings.webhook_allow), proxy=settings.webhook_proxy, ca_bundle=settings.ca_bundle)
    try:
        headers = sign(keys, f"msg_test_{random.token_hex(8)}", int(time.time()), body)
        outcome = await sender.send(sent_to, headers, gzip.compress(body) if body else None)
    finally:
        await sender.close()
    found = msgspec.structs.asdict(outcome)
    found["reply"] = None if outcome.reply is None else outcome.reply.decode(errors="replace")
    return found, sent_to
