"""Waiting for something to become true, never for time to pass."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

WITHIN = 90.0
"""Seconds; far more than needed: speed is not tested here."""
_POLL = 0.05


def eventually(
    found: Callable[[], T | None],
    what: str,
    *,
    within: float = WITHIN,
    instead: Callable[[], Any] | None = None,
) -> T:
    """What `found` returns as soon as it is truthy.

    Args:
        found: asked again and again.
        what: the sentence that was hoped to become true.
        within: seconds until the test fails.
        instead: what to show then; default: what `found` returned last.

    """
    deadline = time.monotonic() + within
    while not (answer := found()):
        if time.monotonic() > deadline:
            now = instead() if instead else answer
            raise AssertionError(f"not within {within:.0f} s: {what}; instead: {now!r}")
        time.sleep(_POLL)
    return answer


async def soon(found: Callable[[], object], what: str) -> None:
    """Return as soon as `found` returns something truthy; the event loop goes on meanwhile."""
    try:
        async with asyncio.timeout(WITHIN):
            while not found():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise AssertionError(f"not within {WITHIN:.0f} s: {what}") from error
