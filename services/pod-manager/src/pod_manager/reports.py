"""The status of each PhGroup, as the scheduler reports it: written once a report, the last one counts.

Nothing depends on it: it takes only a few requests at a time, so that it holds no job up, and what is
written already is not written again.
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
        self._session = ""
        self._early: dict[str, ReportGroup] = {}
        """Of a session whose fence is not reached yet."""
        self._wanted: dict[str, ReportGroup] = {}
        self._written: dict[str, status.Patch] = {}
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
        for report in early.values():
            if report.session == session:
                self.receive(report)

    async def close(self) -> None:
        """Break off what is under way."""
        await self._lanes.close()

    async def _write(self, uid: str) -> None:
        async with self._slots:
            while report := self._wanted.pop(uid, None):
                patch = status.report(report)
                if self._written.get(uid) == patch:
                    continue
                try:
                    await self._patch(report.name, patch)
                except RefusedError as error:
                    self._written.pop(uid, None)
                    metrics.refused("report")
                    _log.info("report_refused", group=report.group, why=str(error))
                else:
                    self._written[uid] = patch

    async def _patch(self, name: str, patch: status.Patch) -> None:
        await self._writer.definite(
            lambda: self._kube.patch(PHGROUPS, name, patch, subresource="status"), "report"
        )

    @staticmethod
    def _failed(error: Exception) -> None:
        _log.error("lane_failed", exc_info=error)
        metrics.failed()
