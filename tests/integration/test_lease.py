"""watcher.lease on a real API server: one replica leads, and another follows it at once."""

import asyncio
from datetime import timedelta

import pytest
from tests.support.api import Api
from tests.support.clocks import StillClock
from tests.support.waiting import soon

from shared.kube import HttpKube
from watcher.lease import DURATION, NAME, RENEW, Lease, LeaseLostError

SECONDS = 60.0


class Candidate:
    """A replica that wants the Lease, with a clock of its own."""

    def __init__(self, kube: HttpKube, name: str) -> None:
        self.clock = StillClock()
        self.lease = Lease(kube, self.clock, name)
        self.looks = 0
        self._looked = asyncio.Event()

    def _stands_by(self) -> None:
        self.looks += 1
        self._looked.set()

    async def acquire(self) -> int:
        """Wait for the Lease; the epoch."""
        async with asyncio.timeout(SECONDS):
            return await self.lease.acquire(self._stands_by)

    async def looks_again(self) -> None:
        """Return when it has found the Lease taken once more."""
        seen = self.looks
        async with asyncio.timeout(SECONDS):
            while self.looks == seen:
                self._looked.clear()
                await self._looked.wait()


def holder(api: Api) -> str:
    """Who has the Lease."""
    lease = api.get("Lease", NAME)
    assert lease
    return str(lease["spec"].get("holderIdentity", ""))


async def test_a_lease_that_nobody_holds_is_taken_at_once(kube: HttpKube, api: Api) -> None:
    """Its epoch is the Lease's revision."""
    first = Candidate(kube, "first")
    epoch = await first.acquire()
    lease = api.get("Lease", NAME)
    assert lease
    assert holder(api) == "first"
    assert epoch == int(lease["metadata"]["resourceVersion"])
    assert first.looks == 0


async def test_a_released_lease_goes_to_the_other_at_once(kube: HttpKube, api: Api) -> None:
    """For the second, no time passes at all: it does not wait for the first to fall silent."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    epoch = await first.acquire()
    async with first.lease.released_at_end():
        waiting = asyncio.create_task(second.acquire())
        await second.looks_again()
        await second.looks_again()
        assert holder(api) == "first"
    later = await waiting
    assert holder(api) == "second"
    assert later > epoch


async def test_a_holder_that_renews_is_left_alone(kube: HttpKube, api: Api) -> None:
    """However much time passes for the other."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    await first.acquire()
    keeping = asyncio.create_task(first.lease.keep())
    waiting = asyncio.create_task(second.acquire())
    for _ in range(5):
        await second.looks_again()
        second.clock.advance(DURATION / 2)
        before = api.get("Lease", NAME)
        first.clock.advance(RENEW)
        await soon(lambda before=before: api.get("Lease", NAME) != before, "the Lease is renewed")  # type: ignore[misc]
        await second.looks_again()
    assert holder(api) == "first"
    assert not keeping.done()
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)


async def test_a_silent_holder_is_given_up_and_learns_it(kube: HttpKube, api: Api) -> None:
    """After the Lease's duration, by the other's own clock; the first then may tell no more."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    epoch = await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await second.looks_again()
    second.clock.advance(DURATION)
    await second.looks_again()
    assert holder(api) == "first"
    second.clock.advance(timedelta(seconds=1))
    assert await waiting > epoch
    with pytest.raises(LeaseLostError, match="another watcher took the Lease"):
        async with asyncio.timeout(SECONDS):
            await first.lease.keep()
    assert holder(api) == "second"


async def test_of_many_that_want_it_at_once_one_gets_it(kube: HttpKube, api: Api) -> None:
    """The others stand by."""
    candidates = [Candidate(kube, f"candidate-{number}") for number in range(10)]
    tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
    async with asyncio.timeout(SECONDS):
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for candidate, task in zip(candidates, tasks, strict=True):
        if not task.done():
            await candidate.looks_again()
    leaders = [number for number, task in enumerate(tasks) if task.done()]
    assert len(leaders) == 1
    assert holder(api) == f"candidate-{leaders[0]}"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_predecessor_does_not_release_what_is_no_longer_its_own(kube: HttpKube, api: Api) -> None:
    """Its end comes late: the successor keeps the Lease."""
    first, second = Candidate(kube, "first"), Candidate(kube, "second")
    await first.acquire()
    async with first.lease.released_at_end():
        waiting = asyncio.create_task(second.acquire())
        await second.looks_again()
        second.clock.advance(DURATION + timedelta(seconds=1))
        await waiting
    assert holder(api) == "second"
