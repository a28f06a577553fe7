"""Waiting until a condition holds. Tests never wait for a fixed time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT_SECONDS = 90.0
"""The default bound of a wait. It is generous, because these tests are not about speed."""
_POLL_SECONDS = 0.05


def eventually(
    condition: Callable[[], T | None],
    description: str,
    *,
    within: float = TIMEOUT_SECONDS,
    diagnostics: Callable[[], Any] | None = None,
) -> T:
    """Call the condition until it returns something truthy. Returns that.

    Args:
        condition: a function without side effects.
        description: a sentence that is true when the condition holds.
        within: the seconds until the test fails.
        diagnostics: returns what the failure shows; default: the last result of the condition.

    """
    deadline = time.monotonic() + within
    while not (result := condition()):
        if time.monotonic() > deadline:
            shown = diagnostics() if diagnostics else result
            raise AssertionError(f"timed out after {within:.0f} s: {description}; last observed: {shown!r}")
        time.sleep(_POLL_SECONDS)
    return result


async def eventually_async(condition: Callable[[], object], description: str) -> None:
    """Call the condition until it is truthy, without blocking the event loop."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not condition():  # noqa: ASYNC110 - nothing signals that the condition holds
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise AssertionError(f"timed out after {TIMEOUT_SECONDS:.0f} s: {description}") from error
