"""Tasks come in: posts, replays of posts, live tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from restante.core.allowance import UNLIMITED
from restante.core.errors import InvalidBody
from tests.model.base import KEY, PICK, TASKS, WHOSE, Base
from tests.model.book import Account
from tests.model.world import LIFETIME, MODEL


class Posting(Base):
    """Tasks come in: posts, replays of posts, live tasks."""

    async def _accepted(
        self, account: Account, sent: Sequence[dict[str, Any]], said: Sequence[tuple[str, int | None]], now: datetime
    ) -> None:
        """The book takes what was accepted; what was refused is what it would refuse."""
        good = [one for one, judged in zip(sent, self.world.judged(sent), strict=True) if judged is not None]
        fates = self.book.fates(account, [one["user_prompt"] for one in good], now)
        assert [code for _, code in said] == fates
        taken = []
        for one, (task_id, code) in zip(good, said, strict=True):
            if code is None:
                kinds = tuple(kind for kind, name in ((1, "pingback_url"), (2, "postback_url")) if name in one)
                taken.append((task_id, one["user_prompt"], kinds))
                self.world.wasted[task_id] = 0
        self.book.accept(account, taken, now)

    def allowance(self, account: Account) -> Any:
        return msgspec.structs.replace(
            UNLIMITED, duplicates_per_hour=account.duplicates, spend_per_day=account.cap,
            live_at_once=account.live_at_once,
        )  # fmt: skip

    def something_is_there(self) -> None:
        task = {"model_name": MODEL.name, "user_prompt": "first"}
        ping = {"pingback_url": "http://127.0.0.1:1/$id"}
        post = {"postback_url": "http://127.0.0.1:2/$id"}
        tasks = [task | ping, task | post, task | ping | post, task]
        for whose, number in enumerate((1, 2, 4)):
            self.post(whose, tasks[:number], None)

    @rule(whose=WHOSE, sent=TASKS, key=KEY)
    def post(self, whose: int, sent: list[dict[str, Any]], key: str | None) -> None:
        account, body = self.account(whose), msgspec.json.encode(sent)

        async def work() -> None:
            now = self.world.clock.now
            good = [one for one in self.world.judged(sent) if one is not None]
            said = await self.world.post(account.id, good, self.allowance(account), key, body)
            kept = None if key is None else self.keys.get((account.id, key))
            if kept is not None and kept[2] >= now - LIFETIME:
                assert isinstance(said, InvalidBody) if kept[0] != body else said == kept[1]
                return
            assert not isinstance(said, InvalidBody)
            await self._accepted(account, sent, said, now)
            if key is not None:
                self.keys[account.id, key] = (body, said, now)

        self.run(work())

    @rule(pick=PICK, twice=st.booleans())
    @precondition(lambda self: self.keys)
    def post_again_with_its_key(self, pick: int, twice: bool) -> None:
        (number, key), (body, first, at) = self.pick(pick, list(self.keys.items()))
        account, sent = self.book.accounts[number], msgspec.json.decode(body)

        async def work() -> None:
            now = self.world.clock.now
            good = [one for one in self.world.judged(sent) if one is not None]
            posts = [self.world.post(number, good, self.allowance(account), key, body) for _ in range(1 + twice)]
            said = await asyncio.gather(*posts)
            assert all(one == said[0] for one in said), "two answers to one key"
            if at >= now - LIFETIME:
                assert said[0] == first
            else:
                assert not isinstance(said[0], InvalidBody)
                await self._accepted(account, sent, said[0], now)
                self.keys[number, key] = (body, said[0], now)

        self.run(work())

    @rule(whose=WHOSE, number=st.integers(1, 3))
    def two_posts_at_once(self, whose: int, number: int) -> None:
        """Never more is accepted than there is money for, and never less."""
        account = self.account(whose)
        sent = [{"model_name": MODEL.name, "user_prompt": f"at once {next(self.said)}"} for _ in range(2 * number)]

        async def work() -> None:
            now = self.world.clock.now
            halves = [[one for one in self.world.judged(half) if one] for half in (sent[:number], sent[number:])]
            said = await asyncio.gather(
                *(self.world.post(account.id, half, self.allowance(account)) for half in halves)
            )
            assert not any(isinstance(one, InvalidBody) for one in said)
            told = [one for half in said if not isinstance(half, InvalidBody) for one in half]
            fates = self.book.fates(account, [str(one["user_prompt"]) for one in sent], now)
            assert sorted(str(code) for _, code in told) == sorted(map(str, fates))
            taken = [(one, task_id) for one, (task_id, code) in zip(sent, told, strict=True) if code is None]
            self.book.accept(account, [(task_id, one["user_prompt"], ()) for one, task_id in taken], now)
            self.world.wasted |= {task_id: 0 for _, task_id in taken}

        self.run(work())

    @rule(whose=WHOSE, prompt=st.sampled_from(["a", "b"]))
    def ask_live(self, whose: int, prompt: str) -> None:
        account = self.account(whose)

        async def work() -> None:
            fate = self.book.live_fate(account, prompt, now := self.world.clock.now)
            token = self.api.lease.token
            if token not in self.living:
                await self.api.lease._beat_once()  # as it does by itself: else it could only say 50000
                token = self.api.lease.token
                self.living[token] = True
            asked = await self.api.ask(account.id, prompt, self.allowance(account))
            if fate is not None or isinstance(asked, int):
                assert asked == fate
                return
            self.book.accept(account, [(str(asked.work), prompt, ())], now, token)
            self.note_flights()

        self.run(work())
