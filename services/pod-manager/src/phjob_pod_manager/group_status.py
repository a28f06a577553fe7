"""The status of each PhGroup, written as the scheduler reports it.

No decision depends on it. It uses few of the concurrent requests, so that it cannot delay jobs.

The `place` of a report orders all reports on a group, across all schedulers. `status.fence` has the place of
the last one. Each write tests it, so a late report cannot overwrite a newer one, whichever process writes it.
"""

import structlog

from phjob_core.errors import RejectedError
from phjob_core.kinds import PHGROUPS
from phjob_core.messages import ReportGroupStatus
from phjob_kube.port import Kube
from phjob_pod_manager import metrics, status_patches
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_runtime.keyed_queue import KeyedWorkQueue

MAX_CONCURRENT_WRITES = 4
"""The number of reports written at once, out of `api_retry.MAX_CONCURRENT_REQUESTS`."""
MAX_LAST_PLACES = 10_000
"""The number of groups whose last place is kept. That of another group is read again when it is needed."""

MAX_REJECTIONS = 10
"""The number of attempts to write a report that a policy or a webhook rejects, `RETRY_SECONDS` apart."""

_log = structlog.get_logger()


class GroupStatusWriter:
    """Writes the reports of one shard's scheduler; for each group only the latest one."""

    def __init__(self, kube: Kube, retrier: ApiRetrier) -> None:
        self._kube = kube
        self._retrier = retrier
        self._pending: dict[str, ReportGroupStatus] = {}
        """The report to write next, by the uid of the group."""
        self._last_places: dict[str, str] = {}
        """The place of the last report that is known to be written, by the uid of the group."""
        self._rejections: dict[str, int] = {}
        """The number of rejected attempts to write the pending report, by the uid of the group."""
        self._workers = KeyedWorkQueue(self._write, MAX_CONCURRENT_WRITES)

    def receive(self, report: ReportGroupStatus) -> None:
        """Take a report, unless a newer one of the group is pending."""
        pending = self._pending.get(report.uid)
        if pending is None or pending.place < report.place:
            self._pending[report.uid] = report
            self._workers.add(report.uid)

    async def close(self) -> None:
        """Cancel all writes."""
        await self._workers.close()

    async def _write(self, uid: str) -> None:
        """Write the group's pending report, and those that arrive in the meantime."""
        while report := self._pending.pop(uid, None):
            try:
                await self._put(report)
            except RejectedError as error:
                metrics.write_rejected("set group status")
                _log.info("group_status_rejected", group=report.group, error=str(error))
                self._retry_later(report)
                return
            self._rejections.pop(uid, None)

    def _retry_later(self, report: ReportGroupStatus) -> None:
        """Write a rejected report again later, unless a newer one arrives first.

        Without this, the status would stay wrong until the group changes again.
        """
        attempts = self._rejections.pop(report.uid, 0) + 1
        if attempts < MAX_REJECTIONS or report.uid in self._pending:
            self._rejections[report.uid] = attempts
            self._pending.setdefault(report.uid, report)
            self._workers.add_later(report.uid)

    async def _put(self, report: ReportGroupStatus) -> None:
        """Write the report, unless the group is gone or a newer report is written.

        Raises:
            RejectedError: the API server rejects it although no other report was written.

        """
        last = self._last_places.pop(report.uid, None)
        if last is None:
            last = await self._read_last_place(report)
        while last is not None and last < report.place:
            try:
                await self._patch(report, last)
                last = report.place
            except RejectedError:
                previous, last = last, await self._read_last_place(report)
                if last == previous:
                    raise
        if last is not None:
            self._last_places[report.uid] = last
            if len(self._last_places) > MAX_LAST_PLACES:
                del self._last_places[next(iter(self._last_places))]

    async def _patch(self, report: ReportGroupStatus, last: str) -> None:
        patch = status_patches.set_group_status(report, last)
        await self._retrier.retry_until_definite(
            lambda: self._kube.patch(PHGROUPS.resource, report.name, patch, subresource="status"),
            "set group status",
        )

    async def _read_last_place(self, report: ReportGroupStatus) -> str | None:
        """Return the place of the last report on the group; None if the group is gone."""
        group = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PHGROUPS.resource, report.name), "get phgroup"
        )
        if group is None or group["metadata"]["uid"] != report.uid:
            return None
        return str(group["status"]["fence"])
