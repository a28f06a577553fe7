"""The watcher's Lease on a real API server: one replica holds it, and another takes over at once."""

import asyncio
from datetime import timedelta

import pytest
from tests.fakes.clock import ManualClock
from tests.support.api import Api
from tests.support.waiting import eventually_async

from phjob_kube.http import HttpKube
from phjob_watcher.lease import LEASE_DURATION, NAME, RENEW_PERIOD, Lease, LeaseLostError

SECONDS = 60.0


class Candidate:
    """A replica that wants the Lease, with a clock of its own."""

    def __init__(self, kube: HttpKube, name: str) -> None:
        self.clock = ManualClock()
        self.lease = Lease(kube, self.clock, name)
        self.attempts = 0
        """The number of attempts at which another replica had the Lease."""
        self._has_tried = asyncio.Event()

    def _on_standby(self) -> None:
        self.attempts += 1
        self._has_tried.set()

    async def acquire(self) -> int:
        """Wait for the Lease. Returns its term."""
        async with asyncio.timeout(SECONDS):
            return await self.lease.acquire(self._on_standby)

    async def next_attempt(self) -> None:
        """Wait until one more attempt has failed."""
        attempts = self.attempts
        async with asyncio.timeout(SECONDS):
            while self.attempts == attempts:
                self._has_tried.clear()
                await self._has_tried.wait()


def holder(api: Api) -> str:
    """Return the identity of the Lease's holder."""
    lease = api.get("Lease", NAME)
    assert lease
    return str(lease["spec"].get("holderIdentity", ""))


async def test_a_free_lease_is_acquired_at_once(kube: HttpKube, api: Api) -> None:
    """The term is the Lease's revision."""
    first = Candidate(kube, "first")
    term = await first.acquire()
    lease = api.get("Lease", NAME)
    assert lease
    assert holder(api) == "first"
    assert term == int(lease["metadata"]["resourceVersion"])
    assert first.attempts == 0


async def test_a_released_lease_is_free_at_once(kube: HttpKube, api: Api) -> None:
    """No time passes for the second replica, so it does not wait for the Lease to expire."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    term = await first.acquire()
    async with first.lease.release_on_exit():
        waiting = asyncio.create_task(second.acquire())
        await second.next_attempt()
        await second.next_attempt()
        assert holder(api) == "first"
    later = await waiting
    assert holder(api) == "second"
    assert later > term


async def test_a_holder_that_renews_keeps_the_lease(kube: HttpKube, api: Api) -> None:
    """However much time passes for another replica."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    await first.acquire()
    renewing = asyncio.create_task(first.lease.renew_forever())
    waiting = asyncio.create_task(second.acquire())
    for _ in range(5):
        await second.next_attempt()
        second.clock.advance(LEASE_DURATION / 2)
        before = api.get("Lease", NAME)
        first.clock.advance(RENEW_PERIOD)
        await eventually_async(lambda before=before: api.get("Lease", NAME) != before, "the Lease is renewed")  # type: ignore[misc]
        await second.next_attempt()
    assert holder(api) == "first"
    assert not renewing.done()
    for task in (renewing, waiting):
        task.cancel()
    await asyncio.gather(renewing, waiting, return_exceptions=True)


async def test_a_holder_that_does_not_renew_loses_the_lease_and_stops(kube: HttpKube, api: Api) -> None:
    """After the Lease's duration on the other replica's clock. Both would publish otherwise."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    term = await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await second.next_attempt()
    second.clock.advance(LEASE_DURATION)
    await second.next_attempt()
    assert holder(api) == "first"
    second.clock.advance(timedelta(seconds=1))
    assert await waiting > term
    with pytest.raises(LeaseLostError, match="another watcher took the Lease"):
        async with asyncio.timeout(SECONDS):
            await first.lease.renew_forever()
    assert holder(api) == "second"


async def test_one_of_many_candidates_gets_the_lease(kube: HttpKube, api: Api) -> None:
    """The others are on standby."""
    candidates = [Candidate(kube, f"candidate-{number}") for number in range(10)]
    tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
    async with asyncio.timeout(SECONDS):
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for candidate, task in zip(candidates, tasks, strict=True):
        if not task.done():
            await candidate.next_attempt()
    leaders = [number for number, task in enumerate(tasks) if task.done()]
    assert len(leaders) == 1
    assert holder(api) == f"candidate-{leaders[0]}"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_former_holder_does_not_release_the_lease_of_its_successor(kube: HttpKube, api: Api) -> None:
    """It may stop long after it has lost the Lease."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    await first.acquire()
    async with first.lease.release_on_exit():
        waiting = asyncio.create_task(second.acquire())
        await second.next_attempt()
        second.clock.advance(LEASE_DURATION + timedelta(seconds=1))
        await waiting
    assert holder(api) == "second"
