"""One timer a job: what is due next, found in O(log n). Pure."""

import heapq
from collections.abc import Iterator
from datetime import datetime


class Timers:
    """At most one time for each key."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set(self, key: str, at: datetime | None) -> None:
        """Let the key be due then, and at no other time; None: never."""
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))

    def due(self) -> datetime | None:
        """When the next one is due."""
        self._skip()
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime) -> Iterator[str]:
        """Each key that is due by now, earliest first; it has no timer then."""
        while (at := self.due()) and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            yield key

    def __len__(self) -> int:
        """How many keys have a time."""
        return len(self._at)

    def _skip(self) -> None:
        """Drop what was set to another time since."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
