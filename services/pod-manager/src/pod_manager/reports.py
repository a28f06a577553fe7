"""The status of each PhGroup, as the scheduler reports it.

Nothing depends on it: it takes only a few requests at a time, so that it holds no job up. Reports are
ordered by their place, across all schedulers that there were, and `status.fence` holds that of the last
one. Each write tests it, so a late report is never written over a newer one, whoever brings it.
"""

import asyncio

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
        self._wanted: dict[str, ReportGroup] = {}
        """Of each group, by uid, the report to be written."""
        self._last: dict[str, str] = {}
        """Of each group, by uid, the place of the last one that is known to be written."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._lanes = Lanes(self._write)

    def receive(self, report: ReportGroup) -> None:
        """A group stands like this."""
        wanted = self._wanted.get(report.uid)
        if wanted is None or wanted.place < report.place:
            self._wanted[report.uid] = report
            self._lanes.touch(report.uid)

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
        """Write it, unless the group is gone or a newer one is written.

        Raises:
            RefusedError: it is not taken.

        """
        last = self._last.pop(report.uid, None)
        if last is None:
            last = await self._written(report)
        while last is not None and last < report.place:
            try:
                await self._patch(report, last)
                last = report.place
            except RefusedError:
                known, last = last, await self._written(report)
                if last == known:
                    raise
        if last is not None:
            self._last[report.uid] = last

    async def _patch(self, report: ReportGroup, last: str) -> None:
        patch = status.report(report, last)
        await self._writer.definite(
            lambda: self._kube.patch(PHGROUPS, report.name, patch, subresource="status"), "report"
        )

    async def _written(self, report: ReportGroup) -> str | None:
        """The place of the last report on the group; None if the group is gone."""
        group = await self._writer.definite(lambda: self._kube.get(PHGROUPS, report.name), "get phgroup")
        if group is None or group["metadata"]["uid"] != report.uid:
            return None
        return str(group["status"]["fence"])
