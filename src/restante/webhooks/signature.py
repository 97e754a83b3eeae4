"""Standard Webhooks signatures (contract §12.18): an HMAC-SHA256 over `id.timestamp.body`, the body uncompressed.

Several secrets may be live while one is rotated out: the header lists a signature by each, and a receiver that knows
any of them is content.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # the specification wants 24 to 64


def show_secret(secret: bytes) -> str:
    """A secret as receivers' libraries take it: whsec_ and base64."""
    return PREFIX + base64.b64encode(secret).decode()


def sign(secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery. `timestamp` in seconds since 1970; an empty body signs as empty."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
