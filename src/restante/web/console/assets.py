"""Style, scripts and icon, from memory: named after what is in them, so that browsers may keep them for ever."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

_HERE: Final = Path(__file__).parent / "static"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file as it is served; `packed` for browsers that take gzip, which all do."""

    media_type: str
    body: bytes
    packed: bytes


class Assets:
    """All of static/ that browsers ask for. `paths`: the name of a file -> its URL."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self._served: dict[str, Asset] = {}
        for file in sorted(_HERE.rglob("*")):
            if file.suffix in _TYPES:
                body = file.read_bytes()
                mark = hashlib.blake2b(body, digest_size=8).hexdigest()
                name = f"{file.stem}.{mark}{file.suffix}"
                self._served[name] = Asset(_TYPES[file.suffix], body, gzip.compress(body, 9, mtime=0))
                self.paths[file.name] = f"/console/static/{name}"

    @property
    def packed_bytes(self) -> int:
        """What a browser loads of all of them, once."""
        return sum(len(one.packed) for one in self._served.values())

    async def serve(self, request: Request) -> Response:
        """One of them. The log-in page needs them too, so that they need no session."""
        asset = self._served.get(request.path_params["name"])
        if asset is None:
            return Response("Not found.", 404, media_type="text/plain")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        packs = "gzip" in request.headers.get("accept-encoding", "")
        if packs:
            headers["Content-Encoding"] = "gzip"
        return Response(asset.packed if packs else asset.body, headers=headers, media_type=asset.media_type)
