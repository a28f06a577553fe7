"""Timers by key. Setting one, and taking the next, costs O(log n). Pure."""

import heapq
from collections.abc import Iterator
from datetime import datetime

MAX_OUTDATED_ENTRIES = 64
"""The number of outdated entries that the heap keeps in any case, beside one for each timer.

Without a bound, a removed timer would take memory until its time, which may be days away.
"""


class Timers:
    """At most one timer for each key."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        """The timers by time. Entries of timers that were set again or removed are skipped lazily."""

    def set(self, key: str, at: datetime | None) -> None:
        """Set the key's only timer; None removes it."""
        if at is None:
            self._at.pop(key, None)
            self._remove_outdated()
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            self._remove_outdated()

    def due(self) -> datetime | None:
        """Return when the next timer is due; None if there is none."""
        self._skip_replaced()
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime) -> Iterator[str]:
        """Remove each timer that is due by now, earliest first, and yield its key."""
        while (at := self.due()) and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            yield key

    def __len__(self) -> int:
        """Return the number of timers."""
        return len(self._at)

    def _remove_outdated(self) -> None:
        """Drop the heap entries of timers that were set again or removed, if there are many."""
        if len(self._heap) > 2 * len(self._at) + MAX_OUTDATED_ENTRIES:
            self._heap = sorted((at, key) for key, at in self._at.items())

    def _skip_replaced(self) -> None:
        """Drop heap entries of timers that were set again or removed."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
