"""The follower: stores the log of a running pod once more, when it has ended after its deletion.

A command has a grace period after SIGTERM, and what it writes meanwhile belongs into its log (spec.md, L14).
The kubelet removes the log together with the pod, so that it has to be read while it is written. The log as
of the deletion is in the archive already, and stays there if anything fails here.
"""

import asyncio
from collections.abc import AsyncIterator

import structlog

from phjob_core.errors import PhJobError
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.pod_reading import MAIN_CONTAINER
from phjob_kube.port import Kube
from phjob_pod_manager.log_archive.head_tail import HeadTailBuffer
from phjob_pod_manager.log_archive.store import Archive

MAX_FOLLOWED_LOGS = 8
"""The number of logs that are followed at once. Each takes up to 20 MiB, as when it is stored."""
MAX_OPEN_SECONDS = 5
"""The time for which a deletion waits until the API server sends the log."""
MAX_FOLLOW_SECONDS = 120
"""The time for the grace period of a pod, 30 s, and for the end of its log to arrive and be stored."""

_log = structlog.get_logger()


class LogFollower:
    """The logs that are being followed."""

    def __init__(self, kube: Kube, archive: Archive, max_bytes: int) -> None:
        """`max_bytes`: the bytes that are kept of one log."""
        self._kube = kube
        self._archive = archive
        self._max_bytes = max_bytes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The tasks that follow a log, by the uid of the pod."""

    async def follow(self, job: JobSeen, pod: PodSeen) -> None:
        """Begin to follow the log of a pod that is about to be deleted.

        Returns when the API server has begun to send it, or after `MAX_OPEN_SECONDS`. Without a free place,
        the log is not followed.
        """
        if pod.uid in self._tasks or len(self._tasks) >= MAX_FOLLOWED_LOGS:
            return
        opened = asyncio.Event()
        task = asyncio.create_task(self._store(job, pod, opened))
        self._tasks[pod.uid] = task
        task.add_done_callback(lambda _: self._tasks.pop(pod.uid, None))
        try:
            async with asyncio.timeout(MAX_OPEN_SECONDS):
                await opened.wait()
        except TimeoutError:
            _log.warning("log_end_late", pod=pod.uid)

    async def close(self) -> None:
        """Cancel everything that is being followed."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _store(self, job: JobSeen, pod: PodSeen, opened: asyncio.Event) -> None:
        """Store the log of the pod when it has ended."""
        try:
            async with asyncio.timeout(MAX_FOLLOW_SECONDS):
                await self._archive.put(job, pod, self._read(pod, opened))
            _log.info("log_end_stored", job=job.name, uid=job.uid, url=self._archive.url(job, pod))
        except (PhJobError, TimeoutError) as error:
            _log.warning("log_end_not_stored", job=job.name, uid=job.uid, error=str(error) or "too slow")
        finally:
            opened.set()

    async def _read(self, pod: PodSeen, opened: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield what is kept of the pod's log, until the container has ended."""
        buffer = HeadTailBuffer(self._max_bytes)
        async for chunk in self._kube.follow_log(pod.name, MAIN_CONTAINER, opened.set):
            if kept := buffer.feed(chunk):
                yield kept
        if end := buffer.end():
            yield end
