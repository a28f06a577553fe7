"""The status of a PhGroup on a real API server: whose word stands when two pod-managers report."""

from itertools import count
from typing import Any

from tests.support.api import Api
from tests.support.builders import a_group
from tests.support.waiting import soon

from pod_manager.reports import Reports
from pod_manager.writes import Writer
from shared.clock import SystemClock
from shared.kube import HttpKube
from shared.messages import ReportGroup


class Reporter:
    """A pod-manager that writes what one session of the scheduler reports."""

    def __init__(self, kube: HttpKube, api: Api, session: int) -> None:
        self._api = api
        self._session = session
        self._numbers = count()
        self._reports = Reports(kube, Writer(SystemClock()))

    async def tells(self, pending: int) -> dict[str, Any]:
        """Report so many; the group's status afterwards."""
        uid = self._group()["metadata"]["uid"]
        self.receives(uid, pending)
        await soon(lambda: not len(self._reports._lanes), "it is written")
        status: dict[str, Any] = self._group()["status"]
        return status

    def receives(self, uid: str, pending: int) -> None:
        """A report on the object of that uid."""
        place = f"{self._session}/{next(self._numbers)}"
        report = ReportGroup(uid=uid, name="vision", group="vision", place=place, pending=pending)
        self._reports.receive(report)

    def _group(self) -> Any:
        return self._api.get("PhGroup", "vision")


async def test_once_a_successor_has_written_its_predecessor_comes_too_late(kube: HttpKube, api: Api) -> None:
    """Also one that was only asleep, and wakes up with a report in hand, be it its first."""
    api.create(a_group("vision"))
    old, older, new = Reporter(kube, api, 2), Reporter(kube, api, 1), Reporter(kube, api, 3)
    assert (await old.tells(1))["pending"] == 1
    assert (await old.tells(2))["pending"] == 2
    assert (await new.tells(2))["pending"] == 2
    assert (await old.tells(3))["pending"] == 2
    assert (await older.tells(5))["pending"] == 2
    assert (await new.tells(4))["pending"] == 4


async def test_what_a_predecessor_still_brings_in_is_written_over(kube: HttpKube, api: Api) -> None:
    """It may write between two words of its successor's: what it found may be from before both."""
    api.create(a_group("vision"))
    new = Reporter(kube, api, 2)
    assert (await new.tells(1))["pending"] == 1
    api.merge("PhGroup", "vision", {"status": {"fence": "1/7", "pending": 9}}, subresource="status")
    assert (await new.tells(2))["pending"] == 2


async def test_an_administrator_s_edit_holds_no_report_up(kube: HttpKube, api: Api) -> None:
    """It changes the spec alone."""
    api.create(a_group("vision"))
    reporter = Reporter(kube, api, 1)
    await reporter.tells(1)
    api.merge("PhGroup", "vision", {"spec": {"groupQuota": {"gpu": 1}}})
    assert (await reporter.tells(2))["pending"] == 2


async def test_a_new_group_of_the_same_name_is_not_told_what_the_old_one_was(
    kube: HttpKube, api: Api
) -> None:
    """A report is about one object."""
    api.create(a_group("vision"))
    reporter = Reporter(kube, api, 1)
    await reporter.tells(1)
    old = api.get("PhGroup", "vision")
    assert old
    api.delete("PhGroup", "vision")
    api.create(a_group("vision"))
    reporter.receives(old["metadata"]["uid"], 9)
    assert (await reporter.tells(0))["pending"] == 0
