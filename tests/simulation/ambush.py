"""Waiting for the very moment at which something is on its way: most of what goes wrong goes wrong then."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ambushes(Generic[K, V]):
    """Those who wait, by the kind of thing: one for each kind."""

    def __init__(self) -> None:
        self._waiting: dict[K, asyncio.Future[V]] = {}

    async def next(self, kind: K, patience: float) -> V | None:
        """The next one of the kind; None if none comes in so many seconds, or somebody else waits for it."""
        if kind in self._waiting:
            return None
        ambush: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting[kind] = ambush
        try:
            async with asyncio.timeout(patience):
                return await ambush
        except TimeoutError:
            return None
        finally:
            del self._waiting[kind]

    def comes(self, kind: K, what: V) -> bool:
        """One of the kind is on its way; whether somebody has waited for it."""
        ambush = self._waiting.get(kind)
        if ambush is None or ambush.done():
            return False
        ambush.set_result(what)
        return True
