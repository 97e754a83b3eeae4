"""Finding batches at their provider: with their own project's key or, when that may not be called any more, with each
of the others. A renewed key is a project of another name here, and the same one to the provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from restante.core.answer import Failure
from restante.providers.provider import Batching, Sent
from restante.store.batches import Batch


class Finder:
    """`projects` are those that may be called now. What is found comes with the batch as it is: under which project."""

    def __init__(self, provider: Batching, projects: Callable[[], Sequence[str]]) -> None:
        self._provider = provider
        self._projects = projects

    def _of(self, batch: Batch) -> Sequence[str]:
        projects = self._projects()
        return projects if projects and batch.project not in projects else (batch.project,)

    async def look(self, batch: Batch) -> tuple[Batch, Sent | Failure]:
        """Where the batch stands. That other projects do not know it is no word of its end: a key that does may come
        yet, until it is late."""
        assert batch.remote is not None
        failure = None
        for project in self._of(batch):
            sent = await self._provider.look(project, batch.remote)
            if isinstance(sent, Sent):
                return replace(batch, project=project), sent
            failure = sent if project == batch.project else _no_key(sent)
        assert failure is not None
        return batch, failure

    async def named(self, batch: Batch) -> tuple[Batch, Sequence[Sent] | Failure]:
        """The batches that were made of it, those first that may bring answers. None is certain only of its own
        project."""
        found: Sequence[Sent] | Failure = ()
        for project in self._of(batch):
            found = await self._provider.find(project, batch.name)
            if not isinstance(found, Failure) and found:
                return replace(batch, project=project), sorted(found, key=lambda one: one.stopped)
            if project != batch.project:
                found = _no_key(found if isinstance(found, Failure) else None)
        return batch, found

    async def forget(self, batch: Batch) -> None:
        """Have the provider forget the batch, if it was made, and the calls uploaded for it, as far as it goes."""
        if batch.remote is not None or batch.file is not None:
            for project in self._of(batch):
                await self._provider.delete(project, batch.remote or "", batch.file or "")


def _no_key(failure: Failure | None) -> Failure:
    if failure is not None and failure.transient and not failure.doubts_key:
        return failure
    return Failure(reason="no key there is can read it", transient=True)
