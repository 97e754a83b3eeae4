"""A client's server in a process of its own: appends each request to a file, as one line of JSON, and answers 200.

`python -m tests.chaos.receiver FILE [ADDRESS]` prints its port. Where FILE.status exists, its text is the status to
answer with; or "hang", "close" for the connection, a URL to redirect to.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path

import msgspec
from aiohttp import web

HANG_SECONDS = 30.0


async def main(file: Path, address: str) -> None:
    log = file.open("ab", buffering=0)
    told = file.with_suffix(".status")

    async def answer(request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        seen = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": base64.b64encode(body).decode(),
        }
        log.write(msgspec.json.encode(seen) + b"\n")
        how = told.read_text() if told.exists() else "200"
        if how == "hang":
            await asyncio.sleep(HANG_SECONDS)
        elif how == "close" and request.transport is not None:
            request.transport.abort()
        elif how.startswith("http"):
            raise web.HTTPFound(how)
        return web.Response(status=int(how) if how.isdecimal() else 200)

    runner = web.ServerRunner(web.Server(answer, auto_decompress=False))
    await runner.setup()
    await web.TCPSite(runner, address, 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"))
