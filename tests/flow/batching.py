"""A shop whose tasks gather, and a batcher that a test makes look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from restante.flow.accept import Acceptor, Waker
from restante.flow.batch import Batcher
from restante.flow.batch_plan import plan
from restante.flow.lease import Lease
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_batch import GeminiBatches
from restante.store import batches
from restante.store.batches import Known
from restante.web.wire import answer_result, postback
from tests.emulators.gemini import GeminiEmulator
from tests.flow.conftest import Shop
from tests.support import differences

USAGE = "[[usage=120,800,300]]"
NOW = plan(0.0, 60.0)  # what has been posted is due


class Office:
    """A shop whose tasks gather for the emulated Gemini, and a batcher that a test makes look."""

    def __init__(self, shop: Shop, lease: Lease, google: GeminiEmulator, provider: GeminiProvider) -> None:
        self.shop, self.db, self.google = shop, shop.db, google
        self.lease, self.provider = lease, provider
        self.projects = ["a project"]
        shop.acceptor = Acceptor(shop.db, Waker(shop.db), shop.clock, gather={"gemini": 120.0})
        shop.provider = "gemini"

    def batcher(self, **changes: object) -> Batcher:
        made = msgspec.structs.replace(NOW, **{"poll": (0.0,), "doubt": 10.0} | changes)
        return Batcher(
            self.db, self.lease, GeminiBatches(self.provider), made, projects=lambda: self.projects,
            render=answer_result, envelope=postback, clock=self.shop.clock,
        )  # fmt: skip

    async def looks(self, batcher: Batcher, most: int = 20) -> None:
        """Look until nothing is due, or so often."""
        for _ in range(most):
            if not await batcher.step():
                return

    def keys(self, *keys: str) -> None:
        """These are in the key file from now on."""
        self.provider._api_key = lambda: ",".join(keys)
        self.provider.key = partial(GeminiProvider.key, self.provider)  # type: ignore[method-assign]
        self.projects = list(self.provider.projects())

    async def due(self) -> None:
        """Every batch is due for a look."""
        await self.db._pool.execute("update batch set look_at = now()")

    async def known(self) -> list[Known]:
        return await batches.listed(self.db, 10, only_open=False)


@asynccontextmanager
async def opened(shop: Shop) -> AsyncIterator[Office]:
    """The office of a shop; its money adds up at the end."""
    async with GeminiEmulator() as google:
        google.batches.takes = 0.0
        provider = GeminiProvider(lambda: "good-key", google.url)
        provider.key = lambda project: "good-key"  # type: ignore[method-assign]
        lease = Lease(shop.db, "a worker", 60)
        await lease.begin()
        yield Office(shop, lease, google, provider)
        await provider.close()
        assert not await differences(shop.db)
