"""The archiver: which logs are still to be stored in the archive, and how a log is stored.

A log is stored when its job has ended, and before its pod is deleted. A failing archive delays a deletion by
at most `MAX_DELETION_DELAY`, and the log is tried again. It never changes a job's phase (spec.md, L14).

The logs are stored in the background, `MAX_CONCURRENT_LOGS` at a time. A worker that waited for its turn
would take memory, and there may be a log of every finished job to store.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from phjob_core.backoff import Backoff
from phjob_core.diagnosis import describe_start_obstacle
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.kinds import PODS
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.planner import LogState
from phjob_core.pod_reading import MAIN_CONTAINER
from phjob_core.projection import pod_message
from phjob_core.timers import Timers
from phjob_kube.port import Kube
from phjob_pod_manager import metrics
from phjob_pod_manager.log_archive.follower import LogFollower
from phjob_pod_manager.log_archive.head_tail import HeadTailBuffer
from phjob_pod_manager.log_archive.store import Archive, ArchiveError
from phjob_runtime.clock import Clock

MAX_DELETION_DELAY = timedelta(seconds=30)
"""The time for which a failing archive may delay a pod's deletion."""
MAX_SILENCE = MAX_DELETION_DELAY
"""The time without progress after which an attempt to store a log has failed."""
RETRY_BACKOFF = Backoff(first=2, longest=300)
"""The delay before the next attempt to store one log (spec.md, L14)."""
MAX_CONCURRENT_LOGS = 4
"""The number of logs stored at once. Each takes up to 20 MiB, most of it for the parts of its upload."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _FailedLog:
    """A log that is not stored, because every attempt has failed."""

    since: datetime
    """When it was first due."""
    attempts: int
    retry_at: datetime


class LogArchiver:
    """The state of the logs of all pods. Without an archive, no log is ever due."""

    def __init__(self, kube: Kube, clock: Clock, archive: Archive | None, max_bytes: int) -> None:
        """`max_bytes`: the bytes that are kept of one log."""
        self._kube = kube
        self._clock = clock
        self._archive = archive
        self._max_bytes = max_bytes
        self._follower = LogFollower(kube, archive, max_bytes) if archive else None
        self._failed: dict[str, _FailedLog] = {}
        """The failed logs, by the uid of the pod."""
        self._due_since: dict[str, datetime] = {}
        """The logs that wait for their turn or are being stored, by the uid of the pod."""
        self._progress: dict[str, datetime] = {}
        """When each log that is being stored has last made progress, by the uid of the pod."""
        self._unreadable: set[str] = set()
        """The uids of the pods that have no log any longer."""
        self._timers = Timers()
        """When to try again, by the uid of the job."""

    def state(self, job: JobSeen, pod: PodSeen | None, *, node_lost: bool) -> LogState:
        """Return whether the pod's log is due, and whether it blocks the deletion."""
        if self._archive is None or pod is None or node_lost or pod.uid in self._unreadable:
            return LogState()
        if job.log_url == self._archive.url(job, pod):
            return LogState()
        failed, due_since = self._failed.get(pod.uid), self._due_since.get(pod.uid)
        since = failed.since if failed else due_since
        if since is None:
            return LogState(should_store=True, blocks_deletion=True)
        now = self._clock.now()
        since = max(since, self._progress.get(pod.uid, since))
        return LogState(
            should_store=due_since is None and (failed is None or now >= failed.retry_at),
            blocks_deletion=now < since + MAX_DELETION_DELAY,
        )

    def begin(self, job: JobSeen, pod: PodSeen) -> None:
        """Record that the pod's log waits for its turn to be stored."""
        now = self._clock.now()
        self._due_since.setdefault(pod.uid, now)
        failed = self._failed.get(pod.uid)
        unblocked_at = (failed.since if failed else now) + MAX_DELETION_DELAY
        self._timers.set(job.uid, unblocked_at if now < unblocked_at else None)

    def is_due(self, pod: PodSeen) -> bool:
        """Return whether the pod's log still waits for its turn to be stored."""
        return pod.uid in self._due_since

    def reset(self) -> None:
        """Forget every log, because a snapshot will say which pods there are."""
        self._failed.clear()
        self._due_since.clear()
        self._unreadable.clear()
        self._timers = Timers()
        metrics.logs_waiting(0)

    async def store(self, job: JobSeen, pod: PodSeen) -> str | None:
        """Store the pod's log. Returns its URL; None if the pod has no log any longer.

        Raises:
            ArchiveError: it is not stored. The next attempt is scheduled.

        """
        assert self._archive is not None  # noqa: S101 - without an archive, `state` never asks for it
        began = self._clock.now()
        since = self._due_since.get(pod.uid, began)
        limit = MAX_SILENCE.total_seconds()
        size = 0

        async def chunks(limit: asyncio.Timeout) -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in self._read(pod):
                size += len(chunk)
                self._progress[pod.uid] = self._clock.now()
                limit.reschedule(asyncio.get_running_loop().time() + MAX_SILENCE.total_seconds())
                yield chunk

        try:
            # Each chunk extends the timeout. Without this, a long log could never be stored.
            async with asyncio.timeout(limit) as running:
                await self._archive.put(job, pod, chunks(running))
        except (ArchiveError, UnreachableError, TimeoutError) as error:
            message = str(error) or f"no progress for {limit:.0f} s"
            self._schedule_retry(job, pod, since, message)
            raise ArchiveError(message) from error
        except RejectedError as error:
            _log.warning("log_skipped", error=str(error))
            self._unreadable.add(pod.uid)
            return None
        finally:
            self._due_since.pop(pod.uid, None)
            self._progress.pop(pod.uid, None)
        self.evict(pod.uid)
        metrics.log_stored(size, (self._clock.now() - began).total_seconds())
        url = self._archive.url(job, pod)
        _log.info("log_stored", url=url, bytes=size)
        return url

    async def follow(self, job: JobSeen, pod: PodSeen) -> None:
        """Have the end of a running pod's log stored as well, if the log is stored up to now.

        Returns when the pod can be deleted.
        """
        is_running = pod.started and not pod.phase.finished and not pod.deleting
        if self._archive and self._follower and is_running and job.log_url == self._archive.url(job, pod):
            await self._follower.follow(job, pod)

    async def close(self) -> None:
        """Cancel everything that is being followed."""
        if self._follower:
            await self._follower.close()

    def evict(self, pod_uid: str) -> None:
        """Stop tracking the log of a pod, because the pod is gone or its log is stored."""
        self._failed.pop(pod_uid, None)
        self._due_since.pop(pod_uid, None)
        self._unreadable.discard(pod_uid)
        metrics.logs_waiting(len(self._failed))

    def reset_retries(self, pod: PodSeen) -> None:
        """Make the pod's log due at once, because a command asks for the pod's deletion."""
        self._failed.pop(pod.uid, None)
        if pod.uid in self._due_since:
            self._due_since[pod.uid] = now = self._clock.now()
            self._timers.set(pod.job_uid, now + MAX_DELETION_DELAY)
        metrics.logs_waiting(len(self._failed))

    def record_loss(self, pod: PodSeen) -> None:
        """Report a log that is lost, because its pod is deleted and it is not stored."""
        if pod.uid in self._failed or pod.uid in self._due_since:
            metrics.log_lost()
            _log.error("log_lost", attempt=pod.attempt)

    def next_retry(self) -> datetime | None:
        """Return when the next log is due again; None if no log has failed."""
        return self._timers.due()

    def take_due(self) -> Iterator[str]:
        """Remove the timers that are due, and yield the uids of their jobs."""
        return self._timers.take(self._clock.now())

    def _schedule_retry(self, job: JobSeen, pod: PodSeen, due_since: datetime, error: str) -> None:
        """Record a failed attempt to store a log that was due at that time, and schedule the next one."""
        now = self._clock.now()
        failed = self._failed.get(pod.uid)
        attempts = failed.attempts + 1 if failed else 1
        since = failed.since if failed else due_since
        retry_at = now + timedelta(seconds=RETRY_BACKOFF.delay(attempts))
        self._failed[pod.uid] = _FailedLog(since, attempts, retry_at)
        unblocked_at = since + MAX_DELETION_DELAY
        self._timers.set(job.uid, min(retry_at, unblocked_at) if now < unblocked_at else retry_at)
        metrics.log_failed()
        metrics.logs_waiting(len(self._failed))
        _log.warning("log_not_stored", attempts=attempts, error=error)

    async def _read(self, pod: PodSeen) -> AsyncIterator[bytes]:
        """Yield what is kept of the pod's log, or one line with the reason for its lack."""
        buffer = HeadTailBuffer(self._max_bytes)
        try:
            async for chunk in self._kube.logs(pod.name, MAIN_CONTAINER):
                if kept := buffer.feed(chunk):
                    yield kept
        except RejectedError as error:
            if error.status == 404:
                raise
            found = await self._kube.get(PODS.resource, pod.name)
            message = pod_message(found) if found and found["metadata"]["uid"] == pod.uid else ""
            why = describe_start_obstacle(pod, message) or str(error)
            yield f"phjob: the container has not started, so there is no log: {why}\n".encode()
        if end := buffer.end():
            yield end
