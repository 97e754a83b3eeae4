"""How calls to models leave: through an HTTP proxy, believing a private authority, and directly to this machine."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest

from restante.config import load
from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.providers.gemini import GeminiProvider
from restante.providers.openai_compatible import OpenAICompatibleProvider
from restante.providers.session import DIRECT, Egress
from restante.webhooks.sender import trust
from restante.wiring import build_models
from tests.emulators.gemini import GeminiEmulator
from tests.emulators.openai import OpenAIEmulator
from tests.emulators.proxy import ForwardProxy, authority
from tests.providers.test_openai_compatible import call, offer

HOST = "llm.test"  # a name that only the proxy knows
LATER = Failure(reason="connection failed", transient=True)


def provider_at(url: str, egress: Egress, *, direct: bool = False) -> OpenAICompatibleProvider:
    from restante.providers.models_map import Server

    server = Server(
        name="workshop",
        url=url,
        key=lambda: "sk-1",
        concurrency=4,
        direct=direct,
        lists_models=False,
        offers=(offer(),),
    )
    return OpenAICompatibleProvider(server, egress)


async def test_https_through_a_proxy_to_a_server_of_a_private_authority(tmp_path: Path) -> None:
    bundle, tls = authority(tmp_path, HOST)
    async with OpenAIEmulator(tls=tls) as emulator, ForwardProxy({HOST: emulator.port}, "user:pa%ss") as proxy:
        url = f"http://user:pa%25ss@127.0.0.1:{proxy.port}"
        provider = provider_at(f"https://{HOST}/v1", Egress(url, trust(bundle)))
        for _ in range(2):
            assert isinstance(await provider.generate(call()), Answer)
        await provider.close()
        assert proxy.seen == [f"CONNECT {HOST}:443 HTTP/1.1"], "one tunnel, nothing else"

        stranger = provider_at(f"https://{HOST}/v1", Egress(url, ssl.create_default_context()))
        assert await stranger.generate(call()) == LATER, "not without the bundle"
        await stranger.close()
        assert len(emulator.heard) == 2


async def test_plain_http_through_a_proxy_with_credentials() -> None:
    async with OpenAIEmulator() as emulator, ForwardProxy({HOST: emulator.port}, "user:secret") as proxy:
        provider = provider_at(f"http://{HOST}/v1", Egress(f"http://user:secret@127.0.0.1:{proxy.port}"))
        for _ in range(3):
            assert isinstance(await provider.generate(call()), Answer)
        await provider.close()
        assert proxy.seen == [f"POST http://{HOST}/v1/chat/completions HTTP/1.1"] * 3


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_no_fault_of_the_task(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ForwardProxy({}, "user:secret") as proxy:
        for credentials in ("", "user:secret@", "user:wr0ng@"):
            provider = provider_at(f"{scheme}://{HOST}/v1", Egress(f"http://{credentials}127.0.0.1:{proxy.port}"))
            failure = await provider.generate(call())
            await provider.close()
            assert isinstance(failure, Failure)
            assert failure.transient
            assert not failure.waits
    assert "secret" not in caplog.text
    assert "wr0ng" not in caplog.text


async def test_this_machine_and_direct_servers_are_called_past_the_proxy() -> None:
    async with OpenAIEmulator() as emulator, ForwardProxy({}) as proxy:
        egress = Egress(f"http://127.0.0.1:{proxy.port}")
        for url in (emulator.url, emulator.url.replace("127.0.0.1", "localhost")):
            provider = provider_at(url, egress)
            assert isinstance(await provider.generate(call()), Answer)
            await provider.close()
        away = provider_at("http://llm.test:1/v1", egress, direct=True)
        assert await away.generate(call()) == LATER
        await away.close()
        assert not proxy.seen


async def test_gemini_goes_through_the_proxy_too() -> None:
    async with GeminiEmulator() as emulator, ForwardProxy({"gemini.test": emulator.port}) as proxy:
        provider = GeminiProvider(
            lambda: "good-key", "http://gemini.test", egress=Egress(f"http://127.0.0.1:{proxy.port}")
        )
        assert await provider.models()
        await provider.close()
        assert proxy.seen[0].startswith("GET http://gemini.test/v1beta/models")


async def test_the_settings_reach_every_provider_but_the_embedded_one(
    tmp_path: Path,
) -> None:
    bundle, tls = authority(tmp_path, HOST)
    server = f'[servers.workshop]\nurl = "https://{HOST}/v1"\nlists_models = false\n'
    (tmp_path / "models.toml").write_text(server + '[models.some-model]\nserver = "workshop"\n')
    async with (
        OpenAIEmulator(tls=tls) as emulator,
        GeminiEmulator() as google,
        ForwardProxy({HOST: emulator.port, "gemini.test": google.port}) as proxy,
    ):
        common = {
            "RESTANTE_DATA_DIR": str(tmp_path / "data"),
            "RESTANTE_MODELS": str(tmp_path / "models.toml"),
            "RESTANTE_EGRESS_PROXY": f"http://127.0.0.1:{proxy.port}",
            "RESTANTE_CA_BUNDLE": str(bundle),
        }
        models = build_models(
            load(common | {"GEMINI_API_KEY": "good-key", "RESTANTE_GEMINI_BASE_URL": "http://gemini.test"})
        )
        assert models.names == ["gemini", "workshop"]
        for provider in models.providers:
            assert await provider.models()
            assert isinstance(await provider.generate(call(model=(await provider.models())[0].served)), Answer)
        await models.close()
        assert {line.split()[0] for line in proxy.seen} == {"GET", "CONNECT"}, "Gemini's connection and the server's"

        proxy.seen.clear()
        models = build_models(load(common | {"RESTANTE_OFFLINE": "1"}))
        assert models.names == ["embedded", "workshop"]
        assert isinstance(await models.providers[0].generate(call(seconds=60, max_output_tokens=4)), Answer)
        await models.close()
        assert not proxy.seen, "its port is this machine's"


@pytest.mark.parametrize(
    "proxy",
    ["proxy:3128", "https://user:secret@proxy", "socks5://proxy", "http://", "http://u:secret@p:99999", "http://p/a?b"],
)
def test_what_is_no_proxy_is_refused_without_being_shown(proxy: str) -> None:
    with pytest.raises(OperatorError, match="no HTTP proxy") as caught:
        Egress(proxy)
    assert "secret" not in str(caught.value) + caught.value.remedy


def test_credentials_show_nowhere() -> None:
    assert repr(Egress("http://user:secret@proxy:3128")) == "Egress(through a proxy)"
    assert repr(DIRECT) == "Egress(direct)"
