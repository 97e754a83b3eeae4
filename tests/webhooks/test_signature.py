"""Signatures, checked by the reference implementation of Standard Webhooks."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from restante.webhooks.signature import SECRET_BYTES, show_secret, sign

OLD, NEW, OTHER = (bytes([value]) * SECRET_BYTES for value in (1, 2, 3))


@pytest.mark.contract("4 signature / secret", "12.18 signature")
@pytest.mark.parametrize("body", [b"", b'{"a":"\xc3\xbc"}'])
def test_receivers_with_either_live_secret_verify(body: bytes) -> None:
    headers = sign([NEW, OLD], "some-id", int(time.time()), body)
    for secret in (NEW, OLD):
        Webhook(show_secret(secret)).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(show_secret(OTHER)).verify(body, headers, json_parse=False)


@pytest.mark.contract("4 signature / secret")
def test_what_was_changed_on_the_way_fails() -> None:
    headers = sign([NEW], "some-id", int(time.time()), b"{}")
    for changed, body in (
        ({"webhook-id": "another"}, b"{}"),
        ({"webhook-timestamp": str(int(time.time()) + 1)}, b"{}"),
        ({}, b"[]"),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(show_secret(NEW)).verify(body, headers | changed, json_parse=False)
