"""The status of a PhGroup on a real API server: which report counts when two pod-managers write."""

from itertools import count
from typing import Any

from tests.support.api import Api
from tests.support.builders import a_group
from tests.support.waiting import eventually_async

from phjob_core.messages import ReportGroupStatus
from phjob_kube.http import HttpKube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.group_status import GroupStatusWriter
from phjob_runtime.clock import SystemClock


class Reporter:
    """A pod-manager that writes the reports of one session of the scheduler."""

    def __init__(self, kube: HttpKube, api: Api, session: int) -> None:
        self._api = api
        self._session = session
        self._numbers = count()
        self._writer = GroupStatusWriter(kube, ApiRetrier(SystemClock()))

    async def report(self, pending: int) -> dict[str, Any]:
        """Write a report. Returns the group's status afterwards."""
        uid = self._group()["metadata"]["uid"]
        self.receive(uid, pending)
        await eventually_async(lambda: not len(self._writer._workers), "it is written")
        status: dict[str, Any] = self._group()["status"]
        return status

    def receive(self, uid: str, pending: int) -> None:
        """Receive a report on the object of this uid."""
        place = f"{self._session}/{next(self._numbers)}"
        report = ReportGroupStatus(uid=uid, name="vision", group="vision", place=place, pending=pending)
        self._writer.receive(report)

    def _group(self) -> Any:
        return self._api.get("PhGroup", "vision")


async def test_a_report_of_an_earlier_session_does_not_replace_a_later_one(kube: HttpKube, api: Api) -> None:
    """A paused pod-manager may resume with a report to write, its first one or not."""
    api.create(a_group("vision"))
    old, older, new = Reporter(kube, api, 2), Reporter(kube, api, 1), Reporter(kube, api, 3)
    assert (await old.report(1))["pending"] == 1
    assert (await old.report(2))["pending"] == 2
    assert (await new.report(2))["pending"] == 2
    assert (await old.report(3))["pending"] == 2
    assert (await older.report(5))["pending"] == 2
    assert (await new.report(4))["pending"] == 4


async def test_a_late_report_of_a_predecessor_is_overwritten(kube: HttpKube, api: Api) -> None:
    """It may arrive between two reports of its successor."""
    api.create(a_group("vision"))
    new = Reporter(kube, api, 2)
    assert (await new.report(1))["pending"] == 1
    api.merge_patch("PhGroup", "vision", {"status": {"fence": "1/7", "pending": 9}}, subresource="status")
    assert (await new.report(2))["pending"] == 2


async def test_an_edit_of_the_group_does_not_block_a_report(kube: HttpKube, api: Api) -> None:
    """It changes the spec, and a report changes the status."""
    api.create(a_group("vision"))
    reporter = Reporter(kube, api, 1)
    await reporter.report(1)
    api.merge_patch("PhGroup", "vision", {"spec": {"groupQuota": {"gpu": 1}}})
    assert (await reporter.report(2))["pending"] == 2


async def test_a_report_on_a_deleted_group_is_not_written_to_a_new_one_of_its_name(
    kube: HttpKube, api: Api
) -> None:
    """A report names the uid of the group."""
    api.create(a_group("vision"))
    reporter = Reporter(kube, api, 1)
    await reporter.report(1)
    old = api.get("PhGroup", "vision")
    assert old
    api.delete("PhGroup", "vision")
    api.create(a_group("vision"))
    reporter.receive(old["metadata"]["uid"], 9)
    assert (await reporter.report(0))["pending"] == 0
