"""Acceptance 3: the examples of the two documentation pages, run for real against a running restante.

The curl, JavaScript and Python examples are cut out of the pages when the test runs, changed in host and credentials,
mended where the pages themselves are broken (`mended` lists each mend), and run with bash and curl, node and axios, and
python. What they print must be the answer printed on the page: the same keys in the same order, the same types and
values, but for times, ids, dates and the version. The pages are not part of this repository: RESTANTE_SEEDS names the
directory that holds them.
"""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import Restante

SEEDS = Path(os.environ.get("RESTANTE_SEEDS") or Path(__file__).parents[3] / "shared" / "seeds")
AXIOS = "1.21.1"
HOST = "https://api.dataforseo.com"
CODE = re.compile(r'<code class="language-(\w+) hljs">(.*?)</code>', re.DOTALL)

PAGES = ("task_post", "tasks_ready")
LANGUAGES = ("bash", "javascript", "python")

pytestmark = pytest.mark.skipif(
    not all((SEEDS / f"{page}.json.txt").is_file() for page in PAGES),
    reason=f"the documentation's pages are not in {SEEDS} (RESTANTE_SEEDS): a clone does not contain them",
)


# --- the pages -----------------------------------------------------------------------------------------


def on_page(page: str, language: str) -> str:
    """The page's one piece of code in a language."""
    rendered = json.loads((SEEDS / f"{page}.json.txt").read_text())["content"]["rendered"]
    [code] = [code for named, code in CODE.findall(rendered) if named == language]
    return html.unescape(code).replace("\r\n", "\n")


def mended(page: str, language: str) -> str:
    """The example as it was meant. Each mend must still be needed, so that none outlives its reason:

    1. curl, both pages: the backslashes that continue a line were lost, so each option became a command of its own.
    2. Python, task_post: the apostrophe of "what's" ends its single-quoted string.

    The JavaScript examples run as they are.
    """
    code = on_page(page, language)
    if language == "bash":
        code, mends = re.subn(r" *\n--", " \\\\\n--", code)
        assert mends == 3
    if (page, language) == ("task_post", "python"):
        code, mends = re.subn(r"'Hello, what's up\?'", r"'Hello, what\\'s up?'", code)
        assert mends == 1
    return code


def addressed(code: str, language: str, restante: Restante, credentials: tuple[str, str]) -> str:
    """The example with our host and our credentials. Python's stand in the lib/ that it imports."""
    login, password = credentials
    quote = {"bash": '{}="{}"', "javascript": "{}: '{}'", "python": ""}[language]
    names = {"bash": ("login", "password"), "javascript": ("username", "password"), "python": ()}[language]
    for name, theirs, ours in zip(names, ("login", "password"), (login, password), strict=False):
        assert code.count(quote.format(name, theirs)) == 1
        code = code.replace(quote.format(name, theirs), quote.format(name, ours))
    assert HOST in code
    return code.replace(HOST, restante.url)


# --- running them --------------------------------------------------------------------------------------


def run(*command: str | Path, **options: Any) -> str:
    """The command's output; proxies of this machine do not concern a server on the loopback."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stderr
    printed: str = done.stdout
    return printed


@pytest.fixture(scope="session")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `require('axios')` works."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed here")
    directory = tmp_path_factory.mktemp("node")
    (directory / "package.json").write_text(json.dumps({"private": True, "dependencies": {"axios": AXIOS}}))
    # The example prints for people, cutting off what is deep; this prints the same value whole.
    (directory / "print_json.js").write_text("console.log = (value) => process.stdout.write(JSON.stringify(value));")
    quickly = ["--fetch-retries=0", "--fetch-timeout=20000"]
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", *quickly]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry did not answer in time")
    if done.returncode != 0:
        pytest.skip(f"npm could not install axios {AXIOS}: {done.stderr.strip().splitlines()[-1:]}")
    return directory


#: What `from lib.client import RestClient` gives the Python examples: the least that does what they ask of it.
CLIENT = """
import base64, json
from http.client import HTTPConnection
from urllib.parse import urlsplit

class RestClient:
    host = "{url}"

    def __init__(self, username, password):
        self.authorization = "Basic " + base64.b64encode(f"{{username}}:{{password}}".encode()).decode()

    def request(self, path, method, data=None):
        connection = HTTPConnection(urlsplit(self.host).netloc)
        try:
            connection.request(method, path, headers={{"Authorization": self.authorization}}, body=data)
            return json.loads(connection.getresponse().read().decode())
        finally:
            connection.close()

    def get(self, path):
        return self.request(path, "GET")

    def post(self, path, data):
        return self.request(path, "POST", data if isinstance(data, str) else json.dumps(data))
"""


class Examples:
    """Runs the examples as one account; an answer comes back as the part of it that the example printed."""

    def __init__(self, restante: Restante, credentials: tuple[str, str], directory: Path) -> None:
        self.restante = restante
        self.credentials = credentials
        self.directory = directory

    def run(self, page: str, language: str, node_project: Path) -> Any:
        code = addressed(mended(page, language), language, self.restante, self.credentials)
        if language == "bash":
            return json.loads(run("bash", "-e", self._file("example.sh", code)))
        if language == "javascript":
            script = node_project / f"{page}.js"
            script.write_text(code)
            return json.loads(run("node", "--require", "./print_json.js", script, cwd=node_project))
        login, password = self.credentials
        self._file("lib/client.py", CLIENT.format(url=self.restante.url))
        self._file("lib/config.py", f"username = {login!r}\npassword = {password!r}\n")
        # As deep below lib/ as the page's own path has it: it looks five directories up.
        return ast.literal_eval(run(sys.executable, self._file("1/2/3/4/5/example.py", code)))

    def _file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def printed_part(page: str, language: str, answer: Any) -> Any:
    """Of a whole answer, what an example prints: curl's and Python's all of it, JavaScript's its tasks or result."""
    if language != "javascript":
        return answer
    return answer["tasks"] if page == "task_post" else answer["tasks"][0]["result"]


def comparable(value: Any) -> str:
    """The answer as text, key order and number types included, without what is each call's own."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = re.sub(r"[0-9]{8}-[0-9a-f]{4}-([0-9]{4})-[01]000-[0-9a-f]{12}", r"an id of function \1", text)
    text = re.sub(r'"[0-9]+\.[0-9]{4} sec\."', '"a time"', text)
    text = re.sub(r'"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} \+00:00"', '"a date"', text)
    text = re.sub(r'"version": "0\.1\.[0-9]{8}"', '"version": "a version"', text)
    # task_post's page asks with a typographic apostrophe ("what’s up") where its answer echoes a plain one.
    return text.replace("’", "'")


def wait_until_ready(restante: Restante, count: int, examples: Examples, node_project: Path) -> None:
    until = time.monotonic() + 20
    while len(examples.run("tasks_ready", "bash", node_project)["tasks"][0]["result"]) < count:
        assert time.monotonic() < until, restante.process.log


@pytest.fixture(scope="module")
def examples(restante: Restante, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The examples, as an account of their own."""
    return Examples(restante, restante.account("examples", "1"), tmp_path_factory.mktemp("examples"))


@pytest.mark.contract("3.1 the answer")
@pytest.mark.parametrize("language", LANGUAGES)
def test_task_post(examples: Examples, request: pytest.FixtureRequest, language: str) -> None:
    """§3.1: the page's task is created, and answered as the page shows it, the cost of 0.0102 included."""
    project = request.getfixturevalue("node_project") if language == "javascript" else examples.directory
    documented = json.loads(on_page("task_post", "json"))
    answer = examples.run("task_post", language, project)
    assert comparable(answer) == comparable(printed_part("task_post", language, documented))


@pytest.fixture(scope="module")
def three_ready(restante: Restante, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The page shows three tasks ready, without tags: so there are three, posted by the page's curl example."""
    directory = tmp_path_factory.mktemp("three-ready")
    examples = Examples(restante, restante.account("examples-ready", "1"), directory)
    for _ in range(3):
        examples.run("task_post", "bash", directory)
    wait_until_ready(restante, 3, examples, directory)
    return examples


@pytest.mark.contract("1 GET requests", "3.2 free")
@pytest.mark.parametrize("language", LANGUAGES)
def test_tasks_ready(three_ready: Examples, request: pytest.FixtureRequest, language: str) -> None:
    """§3.2: three rows as on the page; curl sends a content type and an empty body with its GET."""
    project = request.getfixturevalue("node_project") if language == "javascript" else three_ready.directory
    documented = json.loads(on_page("tasks_ready", "json"))
    answer = three_ready.run("tasks_ready", language, project)
    assert comparable(answer) == comparable(printed_part("tasks_ready", language, documented))


def test_the_comparison_sees_differences() -> None:
    """Key order, types and values count; ids, times, dates and versions do not."""
    one = {"id": "07151610-0696-0613-0000-b2366402ce99", "cost": 0, "time": "0.1 sec."}
    assert comparable(one) == comparable(one | {"id": "01010000-0001-0613-1000-000000000000"})
    for other in (
        {"cost": 0, "id": one["id"], "time": one["time"]},
        one | {"cost": 0.0},
        one | {"cost": None},
        one | {"id": "07151610-0696-0614-0000-b2366402ce99"},
        one | {"more": 1},
    ):
        assert comparable(other) != comparable(one)
