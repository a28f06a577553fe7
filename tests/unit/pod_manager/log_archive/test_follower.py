import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod

from phjob_core.api import Phase
from phjob_core.errors import RejectedError
from phjob_core.messages import JobSeen, PodSeen
from phjob_pod_manager.log_archive import follower as module
from phjob_pod_manager.log_archive.follower import MAX_FOLLOWED_LOGS, LogFollower
from phjob_pod_manager.log_archive.store import ArchiveError

JOB = a_job(phase=Phase.CANCELLED)
POD = a_pod(JOB)


class FakeKube:
    """The API server's log of a container that writes until `ended` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers = True
        self.ended = asyncio.Event()
        self.read: list[str] = []

    async def follow_log(self, pod: str, container: str, opened: Callable[[], None]) -> AsyncIterator[bytes]:
        self.read.append(f"{pod}/{container}")
        if self.error:
            raise self.error
        if not self.answers:
            await asyncio.Event().wait()
        opened()
        yield b"begun\n"
        await self.ended.wait()
        yield b"saved\n"


class FakeArchive:
    """An archive in memory."""

    def __init__(self) -> None:
        self.error = ""
        self.stored: list[bytes] = []

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        return f"memory://{job.name}/{pod.attempt}"

    async def put(self, job: JobSeen, pod: PodSeen, chunks: AsyncIterator[bytes]) -> None:
        log = b"".join([chunk async for chunk in chunks])
        if self.error:
            raise ArchiveError(f"{self.url(job, pod)}: {self.error}")
        self.stored.append(log)


class Following:
    """A follower with a fake API server and a fake archive."""

    def __init__(self) -> None:
        self.kube, self.archive = FakeKube(), FakeArchive()
        kube: Any = self.kube
        archive: Any = self.archive
        self.follower = LogFollower(kube, archive, 1000)

    async def end(self) -> None:
        """End the container, and let the follower store the log."""
        self.kube.ended.set()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_the_log_is_stored_again_when_the_container_has_ended() -> None:
    """With what it has written since. The pod can be deleted as soon as the log is open."""
    following = Following()
    await following.follower.follow(JOB, POD)
    assert following.archive.stored == []
    await following.end()
    assert following.archive.stored == [b"begun\nsaved\n"]
    assert following.kube.read == [f"{POD.name}/main"]


async def test_a_log_is_followed_once() -> None:
    """However often its deletion is repeated."""
    following = Following()
    await following.follower.follow(JOB, POD)
    await following.follower.follow(JOB, POD)
    await following.end()
    assert len(following.archive.stored) == 1


async def test_a_log_that_cannot_be_followed_stays_as_it_was_stored() -> None:
    """The deletion goes on, and nothing is raised."""
    following = Following()
    following.kube.error = RejectedError(404, "NotFound", "no such pod")
    await following.follower.follow(JOB, POD)
    await following.end()
    following.kube.error, following.archive.error = None, "no such bucket"
    await following.follower.follow(JOB, POD)
    await following.end()
    assert following.archive.stored == []


async def test_an_api_server_without_an_answer_delays_a_deletion_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not stored then."""
    monkeypatch.setattr(module, "MAX_OPEN_SECONDS", 0)
    following = Following()
    following.kube.answers = False
    await following.follower.follow(JOB, POD)
    await following.follower.close()
    assert following.archive.stored == []


async def test_few_logs_are_followed_at_once() -> None:
    """Because each takes memory. The others stay as they were stored."""
    following = Following()
    pods = [a_pod(JOB, uid=f"pod-{number}") for number in range(MAX_FOLLOWED_LOGS + 3)]
    for pod in pods:
        await following.follower.follow(JOB, pod)
    await following.end()
    assert len(following.archive.stored) == MAX_FOLLOWED_LOGS
    await following.follower.follow(JOB, pods[-1])
    await following.end()
    assert len(following.archive.stored) == MAX_FOLLOWED_LOGS + 1
