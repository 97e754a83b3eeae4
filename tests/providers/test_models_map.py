"""RESTANTE_MODELS: what it may say, and that what cannot be used is named by file, table and key."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.providers.models_map import ModelsMap, load

ROOT = Path(__file__).parents[2]
SERVER = '[servers.workshop]\nurl = "http://127.0.0.1:11434/v1"\n'


def read(tmp_path: Path, text: str, **environ: str) -> ModelsMap:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return load(str(path), environ)


def test_the_short_form() -> None:
    assert load("gemini-1.5-pro = gemini-3.1-pro-preview,old=new", {}) == ModelsMap(
        (), {"gemini-1.5-pro": "gemini-3.1-pro-preview", "old": "new"}
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=b,c", "'c' is no"),
        ("a=b,=c", "'=c' is no"),
        ("a=b,a=c", "'a' is mapped twice"),
        ("a=b,b=c", "'a' is mapped onto 'b', itself mapped"),
        ("a=a", "'a' is mapped onto 'a'"),
        ("a b=c", "'a b=c' is no"),
        ("/nonexistent/models.toml", "No such file"),
        ("gemini-2.5-flash", "No such file"),
    ],
)
def test_short_forms_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        load(text, {})


def test_the_documented_example(tmp_path: Path) -> None:
    """docs/models.toml, read with the key file it names."""
    (tmp_path / "openai.key").write_text("sk-1")
    mapped = read(tmp_path, (ROOT / "docs/models.toml").read_text())
    workshop, openai = mapped.servers
    assert (workshop.name, workshop.concurrency, workshop.direct, workshop.key) == ("workshop", 4, True, None)
    assert openai.key is not None
    assert openai.key() == "sk-1"
    (tmp_path / "openai.key").write_text("sk-2")
    assert openai.key() == "sk-2", "read again when it changes"
    assert [(one.name, one.served, one.reasoning) for one in workshop.offers] == [
        ("llama-3", "llama3.1:8b", False),
        ("thinker", "deepseek-r1:7b", True),
    ]
    [gpt] = openai.offers
    assert (gpt.price_input, gpt.price_output) == (Decimal("2.00"), Decimal("8.00"))
    assert gpt.price(1_000, 500) == 6_000_000  # $0.002 + $0.004
    assert workshop.offers[0].price(1_000, 500) == 0
    assert mapped.renamed == {
        "house-model": "gemini-3.6-flash",
        "gemini-2.0-flash": "gemini-3.6-flash",
        "gemini-1.5-flash": "llama-3",
    }


def test_defaults_and_a_key_from_the_environment(tmp_path: Path) -> None:
    text = SERVER.replace("/v1", "/v1/") + 'key_env = "K"\nprice_input = 1\n[models.a]\nserver = "workshop"\n'
    [server] = read(tmp_path, text, K=" sk-3 ").servers
    assert (server.url, server.concurrency) == ("http://127.0.0.1:11434/v1", 8)
    assert server.key is not None
    assert server.key() == "sk-3"
    assert (server.offers[0].served, server.offers[0].price(3, 9)) == ("a", 3_000)


MODEL = SERVER + '[models."a.b"]\nserver = "workshop"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[servers", "Expected ']'"),
        ("\x00", "line 1"),
        ("[server.a]", r"unknown table \[server\]"),
        ("servers = 1", r"\[servers\]: Expected `object`"),
        ("[servers]\na = 1", r"\[servers\]: .*Expected `object`"),
        ("[servers.a]", r"\[servers.a\]: key 'url': Object missing required field"),
        (SERVER + "pirce_input = 1", r"\[servers.workshop\]: key 'pirce_input': .*unknown field"),
        (SERVER + 'concurrency = "x"', r"\[servers.workshop\]: key 'concurrency': Expected `int`"),
        (SERVER + "concurrency = 0", r"\[servers.workshop\]: key 'concurrency': .*>= 1"),
        (SERVER + "price_input = -1", r"\[servers.workshop\]: key 'price_input': US dollars"),
        (SERVER + "price_output = nan", r"\[servers.workshop\]: key 'price_output': "),
        (SERVER + "price_output = true", r"\[servers.workshop\]: key 'price_output': "),
        (SERVER + 'key_env = "NOT_SET"', r"\[servers.workshop\]: key 'key_env': the variable NOT_SET is not set"),
        (SERVER + 'key_file = "none"', r"\[servers.workshop\]: its key: .*No such file"),
        (SERVER + 'key_file = "none"\nkey_env = "HOME"', r"\[servers.workshop\]: its key: .*both set"),
        ('[servers.live]\nurl = "http://a"', r"\[servers.live\]: a server's name"),
        ('[servers."A b"]\nurl = "http://a"', r'\[servers."A b"\]: a server\'s name'),
        ('[servers.a]\nurl = "ftp://a"', r"\[servers.a\]: key 'url'"),
        ('[servers.a]\nurl = "http://u:p@a/v1"', r"\[servers.a\]: key 'url'"),
        ('[servers.a]\nurl = "http://a:99999/v1"', r"\[servers.a\]: key 'url'"),
        ('[models.a]\nserver = "b"', r"\[models.a\]: key 'server': there is no table \[servers.b\]"),
        (MODEL + "web_search = true", r'\[models."a.b"\]: key \'web_search\''),
        (MODEL + "colour = 1", r'\[models."a.b"\]: key \'colour\''),
        (MODEL + 'served = "a b"', r'\[models."a.b"\]: key \'served\''),
        (MODEL + '[models."b c"]\nserver = "workshop"', r'\[models."b c"\]: key \'name\''),
        (MODEL + '[models.c]\nserver = "workshop"\nserved = "a.b"\nprice_input = 2', r"\[models.c\]: other prices"),
        (MODEL + '[renamed]\n"a.b" = "x"', r"\[renamed\]: 'a.b' has a table"),
        ("[renamed]\na = 1", r"\[renamed\]: .*Expected `str`"),
        ('[renamed]\na = "b c"', r"\[renamed\]: 'a' = 'b c'"),
        ('[renamed]\na = "b"\nb = "c"', "'a' is mapped onto 'b', which is itself mapped"),
        ('[models.a]\nserver = "gemini"', r"\[models.a\]: key 'served'"),
        ('[models.a]\nserver = "gemini"\nserved = "b"\nprice_input = 1', r"\[models.a\]: key 'price_input'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said) as caught:
        read(tmp_path, text, HOME="key")
    assert str(tmp_path / "models.toml") in caught.value.problem
