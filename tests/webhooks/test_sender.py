"""One attempt: what goes out, what counts as success, what is kept of the reply (contract §4, §12.18)."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from restante.core.errors import OperatorError
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import USER_AGENT, Sender
from restante.webhooks.target import target
from tests.webhooks.receiver import Receiver, receiving

ID = "11201415-0042-0613-0000-5d0c1be9a7f3"


@pytest.mark.contract("4 substitution", "4 no tag given but $tag in URL", "4 encoding", "12.18 $tag without a tag")
@pytest.mark.parametrize(
    ("url", "tag", "made"),
    [
        ("https://h.example/p?id=$id&tag=$tag", "run 17", f"https://h.example/p?id={ID}&tag=run%2017"),
        ("https://h.example/$id/$tag/$id", "a/b?c=d&e#f", f"https://h.example/{ID}/a%2Fb%3Fc%3Dd%26e%23f/{ID}"),
        ("https://h.example/?t=$tag", None, "https://h.example/?t="),
        ("https://h.example/?t=$tag", "$id", "https://h.example/?t=%24id"),
        ("https://h.example/?t=$tag", "ü🚆", "https://h.example/?t=%C3%BC%F0%9F%9A%86"),
        ("https://h.example/a#b", None, "https://h.example/a%23b"),
        ("https://h.example#b", None, "https://h.example/%23b"),
        ("https://h.example?a=1", None, "https://h.example/?a=1"),
        ("HTTPS://H.EXAMPLE", None, "https://h.example/"),
        ('https://h.example/ü?q=é"<>', None, "https://h.example/%C3%BC?q=%C3%A9%22%3C%3E"),
        ("https://h.example/%20%zz%", None, "https://h.example/%20%25zz%25"),
        ("https://bücher.example:8443/$other", None, "https://xn--bcher-kva.example:8443/$other"),
        ("https://$tag.example/", "shop", "https://shop.example/"),
        ("http://[2606:4700::1]:8080/x", None, "http://[2606:4700::1]:8080/x"),
    ],
)
def test_substitution(url: str, tag: str | None, made: str) -> None:
    assert target(url, ID, tag)[1] == made


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://H.example/", "h.example:443"),
        ("http://h.example/", "h.example:80"),
        ("http://h.example:8080?x", "h.example:8080"),
        ("http://[::1]:99/", "::1:99"),
        ("https://$tag:x/", ""),
    ],
)
def test_the_host_that_is_counted(url: str, host: str) -> None:
    assert target(url, ID, None)[0] == host


@pytest.fixture
async def receiver() -> object:
    async with receiving() as made:
        yield made


@pytest.mark.contract("4 pingback", "4 postback", "4 headers of postback", "12.18 postback", "12.18 pingback")
async def test_a_postback_and_a_pingback(receiver: Receiver) -> None:
    sender = Sender(AllowList("127.0.0.1"))
    body = gzip.compress(b'{"a":1}')
    post = await sender.send(receiver.url + "/p?x=%23", {"webhook-id": "a"}, body)
    ping = await sender.send(receiver.url + "/g", {"webhook-id": "b"}, None)
    await sender.close()
    assert (post.status, post.error, post.reply, ping.status) == (200, None, b"thanks", 200)
    one, two = receiver.hits
    assert (one.method, one.path, one.body) == ("POST", "/p?x=%23", body)
    assert (one.headers["Content-Type"], one.headers["Content-Encoding"]) == ("application/json", "gzip")
    assert one.headers["User-Agent"] == two.headers["User-Agent"] == USER_AGENT
    assert (two.method, two.path, two.body) == ("GET", "/g", b"")
    assert "Content-Type" not in two.headers and "Content-Encoding" not in two.headers


@pytest.mark.contract("4 success", "12.18 success")
@pytest.mark.parametrize(
    ("status", "good"), [(200, True), (204, True), (299, True), (300, True), (301, False), (404, False), (500, False)]
)
async def test_success_is_200_to_300(receiver: Receiver, status: int, good: bool) -> None:
    receiver.status, receiver.reply = status, b""
    sender = Sender(AllowList("127.0.0.1"))
    outcome = await sender.send(receiver.url, {}, None)
    await sender.close()
    assert (outcome.status, outcome.error) == (status, None if good else f"HTTP {status}")


async def test_two_kilobytes_of_the_reply_are_kept(receiver: Receiver) -> None:
    receiver.reply = b"ab" * 500_000
    sender = Sender(AllowList("127.0.0.1"))
    outcome = await sender.send(receiver.url, {}, None)
    await sender.close()
    assert outcome.reply == b"ab" * 1_024 and outcome.error is None


@pytest.mark.contract("4 time-out", "5.2 webhook")
async def test_a_receiver_that_hangs_has_its_time_and_no_more(receiver: Receiver) -> None:
    receiver.hang = True
    sender = Sender(AllowList("127.0.0.1"), seconds=0.3)
    began = time.monotonic()
    outcome = await sender.send(receiver.url, {}, None)
    assert time.monotonic() - began < 20
    await sender.close()
    assert (outcome.status, outcome.error) == (None, "no complete answer within 0.3 s")


async def test_a_closed_port_and_a_connection_cut_off() -> None:
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(AllowList("127.0.0.1"))
    assert "ServerDisconnected" in str((await sender.send(f"http://127.0.0.1:{port}/", {}, b"x")).error)
    server.close()
    await server.wait_closed()
    assert "cannot connect" in str((await sender.send(f"http://127.0.0.1:{port}/", {}, None)).error)
    assert (await sender.send("http://x:y/", {}, None)).error
    await sender.close()


async def test_what_a_receiver_makes_of_http_can_be_stored() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 \0\xff\xed\xa0\x80 99999 no\0\r\nX: \0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    sender = Sender(AllowList("127.0.0.1"))
    outcome = await sender.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, None)
    await sender.close()
    server.close()
    await server.wait_closed()
    assert outcome.status is None and outcome.error and "\0" not in outcome.error
    outcome.error.encode()


async def test_through_a_proxy_the_proxy_judges(receiver: Receiver) -> None:
    sender = Sender(AllowList(), proxy=receiver.url)
    outcome = await sender.send("http://inside.example/x", {}, None)
    await sender.close()
    assert outcome.status == 200
    assert [hit.path for hit in receiver.hits] == ["http://inside.example/x"]


async def test_a_ca_bundle_that_is_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    for text in (None, "no certificate"):
        path = tmp_path_factory.mktemp("ca") / "bundle.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(OperatorError, match="RESTANTE_CA_BUNDLE"):
            Sender(AllowList(), ca_bundle=path)
