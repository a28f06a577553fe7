"""Waiting for a write or a message in flight, because a fault at that moment reveals most errors."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Interceptor(Generic[K, V]):
    """The faults that wait for a value, by its kind. At most one waits for each kind."""

    def __init__(self) -> None:
        self._waiting: dict[K, asyncio.Future[V]] = {}

    async def wait_for(self, kind: K, max_seconds: float) -> V | None:
        """Return the next value of the kind.

        Returns None after `max_seconds`, or if another fault already waits for the kind.
        """
        if kind in self._waiting:
            return None
        waiting: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting[kind] = waiting
        try:
            async with asyncio.timeout(max_seconds):
                return await waiting
        except TimeoutError:
            return None
        finally:
            del self._waiting[kind]

    def offer(self, kind: K, value: V) -> bool:
        """Give the value to the fault that waits for the kind. Returns whether there is one."""
        waiting = self._waiting.get(kind)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(value)
        return True
