"""`restante task post`: prompts from the command line, or a file of them, as tasks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restante.cli.common import print_json_lines, print_table
from restante.cli.connect import LOCAL, SOME_FAILED, JsonLines, Login, Password, Url, connected
from restante.cli.text import visible

if TYPE_CHECKING:
    from restante.cli.journal import Journal
    from restante.cli.prompts import Prompt
    from restante.client import Client, Entry


class Input(StrEnum):
    """Formats of files of prompts."""

    CSV = "csv"
    JSONL = "jsonl"
    TXT = "txt"


class OutputFormat(StrEnum):
    """Formats of files of answers."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


Prompts = Annotated[
    list[str],
    typer.Argument(
        help="One prompt or several, each a task of its own; or one file of them: .csv (with a header: user_prompt, "
        "and any other field of a task), .jsonl (a task a line) or .txt (a prompt a line); - is standard input."
    ),
]
Model = Annotated[str, typer.Option(help="The model's name, where the file names none.")]
Format = Annotated[Input | None, typer.Option("--input", help="The format of the file; by default as it is named.")]
OutputPath = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the answers here: .jsonl, .csv or .parquet. Waits for them."),
]
OutputKind = Annotated[OutputFormat | None, typer.Option("--format", help="Of --output, whatever its name.")]


def fields(**given: Any) -> dict[str, Any]:
    """The fields of a task that options name."""
    return {name: value for name, value in given.items() if value is not None}


def post(
    prompts: Prompts,
    model: Model = "gemini-2.5-flash",
    system_message: Annotated[str | None, typer.Option(help="How the model shall behave.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(help="1 to 4096.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    top_p: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    web_search: Annotated[bool, typer.Option("--web-search", help="Let the model search the web.")] = False,
    tag: Annotated[str | None, typer.Option(help="A word of yours that comes back with each task.")] = None,
    postback_url: Annotated[str | None, typer.Option(help="Where answers are sent; $id and $tag are replaced.")] = None,
    pingback_url: Annotated[str | None, typer.Option(help="What is called when a task has finished.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answers and print them.")] = False,
    output: OutputPath = None,
    output_format: OutputKind = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the cost, post nothing.")] = False,
    input_format: Format = None,
    state: Annotated[
        Path | None, typer.Option(help="Where a run keeps what it posted; by default FILE.restante.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Forget an unfinished run of the file: post everything.")] = False,
    repost: Annotated[
        bool, typer.Option("--repost", help="Post again what was being posted when a run was killed over a day ago.")
    ] = False,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: JsonLines = False,
) -> None:
    """Post prompts as tasks; with --wait show a progress bar and print the answers.

    Of a file every line is checked before anything is posted. A run that was ended by anything is gone on with by the
    same command, and no prompt is paid for twice: what was posted is kept in FILE.restante until all is answered.
    Exit code 3: some prompts have no answer; 2: the file is wrong.
    """
    from restante.cli import prompts as reading

    common = fields(
        model_name=model,
        system_message=system_message,
        max_output_tokens=max_output_tokens,
        temperature=temperature,
        top_p=top_p,
        web_search=web_search or None,
        tag=tag,
        postback_url=postback_url,
        pingback_url=pingback_url,
    )
    source = prompts[0] if len(prompts) == 1 and (input_format or reading.is_file(prompts[0])) else None
    if source is None and any(argument == "-" for argument in prompts):
        raise typer.BadParameter("name one file, or prompts")
    if source is None and (new or repost or state):
        raise typer.BadParameter("--state, --new and --repost are for files of prompts")
    work = _Work(source, prompts, common, input_format and input_format.value, wait or output is not None)
    work.output, work.output_format = output, output_format and output_format.value
    work.dry_run, work.new, work.repost, work.state, work.json = dry_run, new, repost, state, json
    raise typer.Exit(asyncio.run(work.run(url, login, password)))


class _Work:
    """What was asked for."""

    output: Path | None = None
    output_format: Any = None
    state: Path | None = None
    dry_run = new = repost = json = False
    kept: float | None = None  # seconds that the server knows an Idempotency-Key

    def __init__(self, source: str | None, texts: Sequence[str], common: dict[str, Any], kind: Any, wait: bool) -> None:
        self.source, self.texts, self.common, self.kind, self.wait = source, texts, common, kind, wait

    async def run(self, url: str, login: str, password: str | None) -> int:
        """The exit code."""
        from restante.cli.journal import Journal
        from restante.cli.output import Output
        from restante.cli.posting import run_of, state_path
        from restante.core.limits import CLIENT_PATIENCE_SECONDS

        path = None if self.source is None else state_path(self.source, self.state)
        self._apart(path)
        answers = Output(self.output, self.output_format) if self.output else None
        async with connected(url, login, password) as client:
            prompts = await self._prompts(client)
        if self.dry_run:
            from restante.cli.quote import quoted, show

            show(quoted([prompt.task for prompt in prompts]), json=self.json)
            return 0
        with Journal(path, run_of(prompts, url, login), anew=self.new) as journal:
            async with connected(url, login, password, patience=CLIENT_PATIENCE_SECONDS) as client:
                await self._carry_out(client, journal, prompts)
            if answers is not None:
                with answers:
                    for place, prompt in enumerate(prompts):
                        if (entry := journal.entry(place)) is not None:
                            answers.write(entry, prompt.line)
            else:
                self._print(journal, prompts)
            left = len(journal.left()) + len(journal.lost)
            if not left:
                journal.finish()
        return SOME_FAILED if left else 0

    def _apart(self, state: Path | None) -> None:
        """Refuse to write over the prompts, or the state of the run. Raises BadParameter."""
        files = {"the file of prompts": self.source, "--state": state, "--output": self.output}
        known: dict[str, str] = {}
        for name, file in files.items():
            if file is not None and file != "-":
                other = known.setdefault(os.path.realpath(file), name)
                if other != name:
                    raise typer.BadParameter(f"{name} is {other}, which would be written over")

    async def _prompts(self, client: Client) -> list[Prompt]:
        """The tasks, checked against this server's own models and bounds. Raises OperatorError."""
        from restante.cli import prompts as reading

        models = {model.model_name: model.web_search_supported for model in await client.models()}
        if self.source is not None:
            from restante.cli.posting import kept_seconds

            document = await client.document()
            self.kept = kept_seconds(document)
            within = reading.bounds(relaxed=_relaxed(document), models=models)
            return reading.read(self.source, self.kind, self.common, within)
        return [
            reading.Prompt(number, {"user_prompt": _text(text), **self.common})
            for number, text in enumerate(self.texts, 1)
        ]

    async def _carry_out(self, client: Client, journal: Journal, prompts: Sequence[Prompt]) -> None:
        from restante.cli.posting import Posting, tell, tell_how_to_go_on
        from restante.cli.text import say
        from restante.client import ClientError

        began = time.monotonic()
        posting = Posting(client, journal, prompts, kept=self.kept, repost=self.repost)
        if journal.resumed:
            say(f"going on with the run in {journal.path}: {len(journal.answered):,} are answered already")
        try:
            await posting.post()
            if self.wait:
                await posting.wait()
        except asyncio.CancelledError:
            tell_how_to_go_on(journal, prompts, "interrupted")
            raise
        except ClientError:
            tell_how_to_go_on(journal, prompts, "given up")
            raise
        if self.source is not None:
            seconds = time.monotonic() - began
            tell(journal, prompts, waited=self.wait, seconds=seconds, stopped=posting.stopped)

    def _print(self, journal: Journal, prompts: Sequence[Prompt]) -> None:
        from restante.core.errors import CREATED_CODE, CREATED_MESSAGE

        entries = [journal.entry(place) for place in range(len(prompts))]
        if self.wait:
            _print_answers(entries, prompts, json=self.json, lines=self.source is not None)
            return
        rows = [
            (prompt.line, journal.ids.get(place, ""), CREATED_CODE, CREATED_MESSAGE)
            if entry is None
            else (prompt.line, entry.id, entry.status_code, entry.status_message)
            for place, (prompt, entry) in enumerate(zip(prompts, entries, strict=True))
            if entry is not None or place in journal.ids
        ]
        names = ("line", "id", "status_code", "status_message")
        if self.json:
            print_json_lines(dict(zip(names, row, strict=True)) for row in rows)
        else:
            print_table(("line", "id", "code", "message"), rows, right=("line",))


def _print_answers(entries: Sequence[Entry | None], prompts: Sequence[Prompt], *, json: bool, lines: bool) -> None:
    from restante.cli.output import entry_json
    from restante.cli.text import harmless_json

    for entry, prompt in zip(entries, prompts, strict=True):
        if entry is None:
            continue
        if json:
            print(harmless_json(entry_json(entry, prompt.line if lines else None)))
        else:
            show_entry(entry)


def show_entry(entry: Entry) -> None:
    """An entry for people: its id and state, the answer's text and its sources. What others wrote is made visible."""
    print(f"{visible(entry.id)}  {entry.status_code} {visible(entry.status_message)}")
    for result in entry.result or ():
        usage = f"{result.input_tokens} tokens in, {result.output_tokens} out, ${result.money_spent} spent"
        print(f"  {visible(result.model_name)}, {usage}")
        for line in visible(result.text, lines=True).split("\n"):
            print(f"  | {line}")
        for source in dict.fromkeys((one.title, one.direct_url or one.url) for one in result.annotations):
            print(f"  - {visible(source[0])}  {visible(source[1])}")


def _relaxed(document: dict[str, Any]) -> bool:
    """Whether the server takes longer prompts than documented (RESTANTE_LIMITS=relaxed), by what it says of itself."""
    from restante.core.limits import PROMPT_CHARS

    def longest(node: Any, *, prompt: bool = False) -> int:
        """The largest maxLength below a `user_prompt`."""
        if isinstance(node, dict):
            own = node.get("maxLength", 0) if prompt else 0
            below = [longest(value, prompt=prompt or name == "user_prompt") for name, value in node.items()]
            return max([own, *below]) if isinstance(own, int) else 0
        return max((longest(one, prompt=prompt) for one in node), default=0) if isinstance(node, list) else 0

    return longest(document.get("components", {})) > PROMPT_CHARS


def _text(argument: str) -> str:
    """An argument that is text: bytes that are no UTF-8 reach Python as lone surrogates, which no JSON can carry."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("a prompt is UTF-8 text") from None
    return argument
