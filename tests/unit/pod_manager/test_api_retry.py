import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.fakes.clock import ManualClock

from phjob_core.errors import RejectedError, UnreachableError
from phjob_pod_manager.api_retry import MAX_CONCURRENT_REQUESTS, ApiRetrier


class RecordingClock(ManualClock):
    """A clock that records each pause, and takes no time for it."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def failing(times: int) -> Callable[[], Awaitable[str]]:
    """Return a request that has no answer this number of times, and then one."""
    outcomes = iter([UnreachableError("no route", 504)] * times)

    async def request() -> str:
        if error := next(outcomes, None):
            raise error
        return "answer"

    return request


async def test_a_request_is_repeated_until_it_has_an_answer() -> None:
    """However long that takes."""
    clock = RecordingClock()
    assert await ApiRetrier(clock).retry_until_definite(failing(100), "get pod") == "answer"
    assert len(clock.pauses) == 100


async def test_the_pauses_grow_to_a_few_seconds() -> None:
    """An API server that starts gets few requests, and one that is back gets them soon."""
    clock = RecordingClock()
    await ApiRetrier(clock).retry_until_definite(failing(50), "get pod")
    assert 0.1 <= clock.pauses[0] <= 0.2
    assert 0.2 <= clock.pauses[1] <= 0.4
    assert all(2.5 <= pause <= 5 for pause in clock.pauses[10:])


async def test_a_rejection_is_an_answer() -> None:
    """A rejected write is not carried out, so there is nothing to repeat."""

    async def request() -> None:
        raise RejectedError(409, "Conflict", "the object has been modified")

    clock = RecordingClock()
    with pytest.raises(RejectedError):
        await ApiRetrier(clock).retry_until_definite(request, "admit")
    assert clock.pauses == []


async def test_bounded_attempts_end_with_the_last_error() -> None:
    """For requests whose outcome nothing depends on."""
    clock = RecordingClock()
    with pytest.raises(UnreachableError):
        await ApiRetrier(clock).retry_until_definite(failing(9), "create pod", max_attempts=5)
    assert len(clock.pauses) == 4


async def test_the_failure_lasts_until_the_next_answer() -> None:
    """/readyz shows it."""
    retrier = ApiRetrier(RecordingClock())
    with pytest.raises(UnreachableError):
        await retrier.retry_until_definite(failing(1), "get pod", max_attempts=1)
    assert retrier.failure == "no route"
    await retrier.retry_until_definite(failing(0), "get pod")
    assert retrier.failure == ""


async def test_the_number_of_concurrent_requests_is_bounded() -> None:
    """Thousands of jobs can change at once."""
    running = most = 0

    async def request() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    retrier = ApiRetrier(RecordingClock())
    requests = (retrier.retry_until_definite(request, "get pod") for _ in range(3 * MAX_CONCURRENT_REQUESTS))
    await asyncio.gather(*requests)
    assert most == MAX_CONCURRENT_REQUESTS
