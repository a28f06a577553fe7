"""The status of each PhGroup, as the scheduler reports it; of several reports the last one counts.

Nothing depends on it: it takes only a few requests at a time, so that it holds no job up. Each write tests
the `status.fence` that it found and leaves one of its own, which begins with its session's place among all
that there were. So a predecessor that wakes up finds that its successor has written, and leaves it at that;
the successor writes over whatever the predecessor has still brought in.
"""

import asyncio
from itertools import count

import structlog

from pod_manager import metrics, status
from pod_manager.lanes import Lanes
from pod_manager.writes import Writer
from shared.errors import RefusedError
from shared.kube import Kube, Resource
from shared.messages import ReportGroup
from shared.phjob import GROUP, VERSION

PHGROUPS = Resource("phgroups", GROUP, VERSION)
AT_ONCE = 4
"""Reports that are being written at a time, of the requests that there may be."""

_log = structlog.get_logger()


class Reports:
    """The reports of one shard's scheduler."""

    def __init__(self, kube: Kube, writer: Writer) -> None:
        self._kube = kube
        self._writer = writer
        self._session = ""
        self._early: dict[str, ReportGroup] = {}
        """Of a session whose fence is not reached yet."""
        self._wanted: dict[str, ReportGroup] = {}
        self._fences: dict[str, str] = {}
        """Of each group, the fence of the last write, which was ours."""
        self._numbers = count(1)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._lanes = Lanes(self._write, self._failed)

    def receive(self, report: ReportGroup) -> None:
        """A group stands like this."""
        if report.session == self._session:
            self._wanted[report.uid] = report
            self._lanes.touch(report.uid)
        else:
            self._early[report.uid] = report

    def obey(self, session: str) -> None:
        """Believe this session of the scheduler alone, from here on."""
        self._session, early, self._early = session, self._early, {}
        self._wanted.clear()
        for report in early.values():
            if report.session == session:
                self.receive(report)

    async def close(self) -> None:
        """Break off what is under way."""
        await self._lanes.close()

    async def _write(self, uid: str) -> None:
        async with self._slots:
            while report := self._wanted.pop(uid, None):
                try:
                    await self._put(report)
                except RefusedError as error:
                    metrics.refused("report")
                    _log.info("report_refused", group=report.group, why=str(error))

    async def _put(self, report: ReportGroup) -> None:
        """Write it, unless the group is gone or a later session has written.

        Raises:
            RefusedError: it is not taken.

        """
        found = self._fences.pop(report.uid, None)
        if found is None:
            found = await self._fence_of(report)
        fence = f"{report.place}#{next(self._numbers)}"
        while found is not None and found.partition("#")[0] <= report.place:
            try:
                await self._patch(report, found, fence)
            except RefusedError:
                now = await self._fence_of(report)
                if now == found:
                    raise
                if now != fence:  # Else it was done, and only its answer lost.
                    found = now
                    continue
            self._fences[report.uid] = fence
            return

    async def _patch(self, report: ReportGroup, found: str, fence: str) -> None:
        patch = status.report(report, found, fence)
        await self._writer.definite(
            lambda: self._kube.patch(PHGROUPS, report.name, patch, subresource="status"), "report"
        )

    async def _fence_of(self, report: ReportGroup) -> str | None:
        """The fence of whoever wrote last; None if the group is gone."""
        group = await self._writer.definite(lambda: self._kube.get(PHGROUPS, report.name), "get phgroup")
        if group is None or group["metadata"]["uid"] != report.uid:
            return None
        return str(group["status"]["fence"])

    @staticmethod
    def _failed(error: Exception) -> None:
        _log.error("lane_failed", exc_info=error)
        metrics.failed()
