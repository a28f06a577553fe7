import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes.clock import ManualClock
from tests.fakes.facts import a_job, a_pod

from phjob_core.api import Object, Phase, PodPhase
from phjob_core.errors import RejectedError
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.planner import LogState
from phjob_pod_manager.log_archive.archiver import MAX_DELETION_DELAY, LogArchiver
from phjob_pod_manager.log_archive.store import ArchiveError

JOB = a_job(phase=Phase.SUCCEEDED)
POD = a_pod(JOB)
DUE = LogState(should_store=True, blocks_deletion=True)
NOT_DUE = LogState()


class FakeArchive:
    """An archive in memory, which fails while `error` is set."""

    def __init__(self) -> None:
        self.error = ""
        self.stored: dict[str, bytes] = {}

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        return f"memory://{job.name}/{pod.attempt}"

    async def put(self, job: JobSeen, pod: PodSeen, chunks: AsyncIterator[bytes]) -> None:
        log = b"".join([chunk async for chunk in chunks])
        if self.error:
            raise ArchiveError(self.error)
        self.stored[self.url(job, pod)] = log


class FakeLogs:
    """The API server's logs: one log, or an error. And the pod of the log."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.pod: Object | None = None

    async def get(self, *_: object) -> Object | None:
        return self.pod

    async def logs(self, *_: str) -> AsyncIterator[bytes]:
        if self.error:
            raise self.error
        yield b"line 1\n"
        yield b"line 2\n"

    async def follow_log(self, pod: str, container: str, opened: Callable[[], None]) -> AsyncIterator[bytes]:
        opened()
        yield f"{pod}, {container}: all lines\n".encode()


class Archiving:
    """An archiver with a fake archive, fake logs and a clock that the test sets."""

    def __init__(self, *, has_archive: bool = True) -> None:
        self.archive, self.logs, self.clock = FakeArchive(), FakeLogs(), ManualClock()
        kube: Any = self.logs
        archive: Any = self.archive if has_archive else None
        self.archiver = LogArchiver(kube, self.clock, archive, 1000)

    def state(self, *, node_lost: bool = False) -> LogState:
        return self.archiver.state(JOB, POD, node_lost=node_lost)

    async def fail(self, error: str = "no such bucket") -> None:
        """Try to store the log while the archive fails."""
        self.archive.error = error
        with pytest.raises(ArchiveError, match=error):
            await self.archiver.store(JOB, POD)

    def advance(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


async def test_a_log_is_due_until_it_is_stored() -> None:
    """The job's status has its URL then."""
    archiving = Archiving()
    assert archiving.state() == DUE
    url = await archiving.archiver.store(JOB, POD)
    assert url
    assert archiving.archive.stored == {url: b"line 1\nline 2\n"}
    stored = JOB.model_copy(update={"log_url": url})
    assert archiving.archiver.state(stored, POD, node_lost=False) == NOT_DUE


def test_no_log_is_due_without_an_archive_a_pod_or_a_node() -> None:
    """A deletion does not wait for it."""
    assert Archiving(has_archive=False).state() == NOT_DUE
    assert Archiving().state(node_lost=True) == NOT_DUE
    assert Archiving().archiver.state(JOB, None, node_lost=False) == NOT_DUE


async def test_a_failing_archive_delays_a_deletion_by_a_bounded_time() -> None:
    """spec.md, L14."""
    archiving = Archiving()
    await archiving.fail()
    assert archiving.state() == LogState(should_store=False, blocks_deletion=True)
    archiving.advance(2)
    assert archiving.state() == DUE
    archiving.advance(MAX_DELETION_DELAY.total_seconds())
    assert archiving.state() == LogState(should_store=True, blocks_deletion=False)


async def test_the_attempts_become_rarer() -> None:
    """The first pause is 2 s and doubles, up to 5 min (spec.md, L14)."""
    archiving = Archiving()
    pauses = []
    for _ in range(10):
        await archiving.fail()
        began = archiving.clock.now()
        while not archiving.state().should_store:
            archiving.advance(1)
        pauses.append((archiving.clock.now() - began).total_seconds())
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_the_job_is_due_again_at_the_next_attempt_or_when_its_deletion_is_no_longer_delayed() -> None:
    """Its worker has to be woken for both."""
    archiving = Archiving()
    began = archiving.clock.now()
    await archiving.fail()
    assert archiving.archiver.next_retry() == began + timedelta(seconds=2)
    archiving.advance(29)
    await archiving.fail()
    assert archiving.archiver.next_retry() == began + MAX_DELETION_DELAY
    assert list(archiving.archiver.take_due()) == []
    archiving.advance(1)
    assert list(archiving.archiver.take_due()) == [JOB.uid]


async def test_a_command_to_delete_the_pod_makes_its_log_due_at_once() -> None:
    """The deletion is delayed by the full time again."""
    archiving = Archiving()
    await archiving.fail()
    archiving.advance(100)
    archiving.archiver.reset_retries(POD)
    assert archiving.state() == DUE


async def test_a_pod_that_is_gone_has_no_log_any_longer() -> None:
    """There is nothing to try again."""
    archiving = Archiving()
    archiving.logs.error = RejectedError(404, "NotFound", 'pods "job-1" not found')
    assert await archiving.archiver.store(JOB, POD) is None
    assert archiving.state() == NOT_DUE
    archiving.archiver.evict(POD.uid)
    assert archiving.state() == DUE, "the pod's uid is not used again"


async def test_a_container_that_has_not_started_has_a_log_of_one_line() -> None:
    """It contains the reason (spec.md, L14)."""
    archiving = Archiving()
    archiving.logs.error = RejectedError(400, "BadRequest", "container is waiting to start")
    url = await archiving.archiver.store(JOB, POD)
    assert url
    line = b"phjob: the container has not started, so there is no log: container is waiting to start\n"
    assert archiving.archive.stored[url] == line


async def test_the_line_of_a_container_that_has_not_started_quotes_its_pod() -> None:
    """The facts about the pod do not have its message (spec.md, E7)."""
    archiving = Archiving()
    archiving.logs.error = RejectedError(400, "BadRequest", "container is waiting to start")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {"name": "main", "state": {"waiting": waiting}}
    archiving.logs.pod = {
        "metadata": {"uid": POD.uid},
        "status": {"containerStatuses": [container]},
    }
    pod = POD.model_copy(update={"reason": "ImagePullBackOff"})
    url = await archiving.archiver.store(JOB, pod)
    assert url
    assert archiving.archive.stored[url].endswith(b"ImagePullBackOff: no such image\n")


RUNNING = {"phase": PodPhase.RUNNING, "start_time": datetime(2026, 11, 25, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("fields", "is_followed"),
    [
        (RUNNING, True),
        ({**RUNNING, "deleting": True}, False),
        ({**RUNNING, "phase": PodPhase.SUCCEEDED}, False),
        ({"phase": PodPhase.PENDING}, False),
    ],
    ids=["running", "deleted already", "ended", "not started"],
)
async def test_the_log_of_a_running_pod_is_followed_before_its_deletion(
    fields: dict[str, Any], *, is_followed: bool
) -> None:
    """Its command may write until its end (spec.md, L14)."""
    archiving = Archiving()
    pod = POD.model_copy(update=fields)
    url = archiving.archive.url(JOB, pod)
    await archiving.archiver.follow(JOB.model_copy(update={"log_url": url}), pod)
    await asyncio.sleep(0)
    expected = {url: f"{pod.name}, main: all lines\n".encode()} if is_followed else {}
    assert archiving.archive.stored == expected
    await archiving.archiver.close()


@pytest.mark.parametrize("has_archive", [True, False])
async def test_a_log_that_is_not_stored_is_not_followed(*, has_archive: bool) -> None:
    """The archive fails, or there is none."""
    archiving = Archiving(has_archive=has_archive)
    await archiving.archiver.follow(JOB, POD.model_copy(update=RUNNING))
    assert archiving.archive.stored == {}
    await archiving.archiver.close()
