"""Which logs are still to be stored in the archive, and how one is.

A log is stored when its job has ended, and before its pod is deleted. An archive that fails delays a
deletion by `PATIENCE` at most and is tried again; it never costs a job (contract.md, Lifecycle).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from pod_manager import metrics
from pod_manager.archive import Archive, ArchiveError
from pod_manager.diagnosis import why_not_started
from pod_manager.excerpt import Excerpt
from pod_manager.plan import Log
from shared.clock import Clock
from shared.errors import RefusedError, UnreachableError
from shared.kube import Kube
from shared.messages import JobSeen, PodSeen
from shared.projection import MAIN
from shared.timers import Timers

PATIENCE = timedelta(seconds=30)
"""How long a deletion waits for the archive at most."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(minutes=5)
"""Between two tries to store one log: doubling."""
AT_ONCE = 4
"""Logs on their way into the archive at a time: each takes some memory."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class _Failing:
    """A log that could not be stored."""

    since: datetime
    """When the first try began."""
    tries: int
    again: datetime


class Logs:
    """The logs of all pods that are known; without an archive, none is ever to be stored."""

    def __init__(self, kube: Kube, clock: Clock, archive: Archive | None, most: int) -> None:
        """`most`: bytes of one log that are kept."""
        self._kube = kube
        self._clock = clock
        self._archive = archive
        self._most = most
        self._failing: dict[str, _Failing] = {}
        self._without: set[str] = set()
        self._timers = Timers()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def state(self, job: JobSeen, pod: PodSeen | None, *, node_lost: bool) -> Log:
        """What is to be done about the log of the job's pod now."""
        if self._archive is None or pod is None or node_lost or pod.uid in self._without:
            return Log()
        if job.log_url == self._archive.url(job, pod):
            return Log()
        failing = self._failing.get(pod.uid)
        if failing is None:
            return Log(store=True, hold=True)
        now = self._clock.now()
        return Log(store=now >= failing.again, hold=now < failing.since + PATIENCE)

    async def store(self, job: JobSeen, pod: PodSeen) -> str | None:
        """Store it; where it is, or None: there is none to be had.

        Raises:
            ArchiveError: it is not stored, and will be tried again.

        """
        assert self._archive is not None  # noqa: S101 - else no `state` says that it should
        began = self._clock.now()
        failing = self._failing.get(pod.uid)
        left = failing.since + PATIENCE - began if failing else PATIENCE
        limit = (left if left > timedelta() else PATIENCE).total_seconds()
        size = 0

        async def pieces(limit: asyncio.Timeout) -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in self._read(pod):
                size += len(piece)
                limit.reschedule(asyncio.get_running_loop().time() + PATIENCE.total_seconds())
                yield piece

        try:
            # It may take long as long as it gets on: only one that stands still is given up.
            async with asyncio.timeout(limit) as running, self._slots:
                await self._archive.put(job, pod, pieces(running))
        except (ArchiveError, UnreachableError, TimeoutError) as error:
            why = str(error) or f"nothing happened for {limit:.0f} s"
            self._failed(job, pod, began, why)
            raise ArchiveError(why) from error
        except RefusedError as error:  # The pod is gone, and its log with it.
            _log.warning("log_gone", job=job.name, uid=job.uid, why=str(error))
            self._without.add(pod.uid)
            return None
        self.forget(pod.uid)
        metrics.log_stored(size, (self._clock.now() - began).total_seconds())
        url = self._archive.url(job, pod)
        _log.info("log_stored", job=job.name, uid=job.uid, url=url, bytes=size)
        return url

    def forget(self, pod_uid: str) -> None:
        """The pod is no more, or its log is stored."""
        self._failing.pop(pod_uid, None)
        self._without.discard(pod_uid)
        metrics.logs_waiting(len(self._failing))

    def retry(self, pod: PodSeen) -> None:
        """The pod is to be deleted: try once more, with all the patience."""
        self._failing.pop(pod.uid, None)

    def lost(self, job: JobSeen, pod: PodSeen) -> None:
        """The pod is deleted; if its log is not stored, that is to be said."""
        if pod.uid in self._failing:
            metrics.log_lost()
            _log.error("log_lost", job=job.name, uid=job.uid, attempt=pod.attempt)

    def due(self) -> datetime | None:
        """When a log is to be looked at again."""
        return self._timers.due()

    def take(self) -> Iterator[str]:
        """The uids of the jobs whose log is to be looked at now."""
        return self._timers.take(self._clock.now())

    def _failed(self, job: JobSeen, pod: PodSeen, began: datetime, why: str) -> None:
        now = self._clock.now()
        before = self._failing.get(pod.uid)
        tries = before.tries + 1 if before else 1
        since = before.since if before else began
        again = now + min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
        self._failing[pod.uid] = _Failing(since, tries, again)
        over = since + PATIENCE
        self._timers.set(job.uid, min(again, over) if now < over else again)
        metrics.log_failed()
        metrics.logs_waiting(len(self._failing))
        _log.warning("log_not_stored", job=job.name, uid=job.uid, tries=tries, why=why)

    async def _read(self, pod: PodSeen) -> AsyncIterator[bytes]:
        """The pod's log, as much of it as is kept; where it has none, a line that says why."""
        excerpt = Excerpt(self._most)
        try:
            async for piece in self._kube.logs(pod.name, MAIN):
                if kept := excerpt.feed(piece):
                    yield kept
        except RefusedError as error:
            if error.status == 404:
                raise
            why = why_not_started(pod) or str(error)
            yield f"phjob: the container has not started, so there is no log: {why}\n".encode()
        if end := excerpt.end():
            yield end
