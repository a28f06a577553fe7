import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.fakes.simulated_pod_manager import SimulatedPodManager, run_scenario
from tests.support.builders import a_group

from phjob_core.messages import ReportGroupStatus
from phjob_pod_manager.group_status import MAX_REJECTIONS, GroupStatusWriter
from phjob_runtime.keyed_queue import RETRY_SECONDS


def status_after(scenario: Callable[[GroupStatusWriter, SimulatedPodManager], Awaitable[None]]) -> Any:
    """Return the status of the group `vision` after the scenario."""

    async def run(cluster: SimulatedPodManager) -> Any:
        cluster.store.create("phgroups", a_group("vision"))
        writer = GroupStatusWriter(cluster.api, cluster.retrier)
        await scenario(writer, cluster)
        await asyncio.sleep(10)
        await writer.close()
        group = cluster.store.get("phgroups", "vision")
        return group and group["status"]

    return run_scenario(run)


def a_report(cluster: SimulatedPodManager, place: str, pending: int) -> ReportGroupStatus:
    group = cluster.store.get("phgroups", "vision")
    assert group
    return ReportGroupStatus(
        uid=group["metadata"]["uid"], name="vision", group="vision", place=place, pending=pending
    )


def test_only_the_latest_of_several_pending_reports_is_written() -> None:
    """An older one would be overwritten at once."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        for number in (1, 3, 2):
            writer.receive(a_report(cluster, f"1/{number}", number))
        await asyncio.sleep(10)
        writes = [change for change in cluster.store.changes_of["phgroups"] if change.before]
        assert [change.object["status"].get("pending") for change in writes] == [3]

    assert status_after(scenario)["fence"] == "1/3"


def test_an_older_report_does_not_replace_a_newer_one() -> None:
    """Another pod-manager may have written the newer one."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        cluster.store.set_status("phgroups", "vision", {"fence": "2/1", "pending": 7})
        writer.receive(a_report(cluster, "1/9", 1))

    assert status_after(scenario) == {"fence": "2/1", "pending": 7}


def test_a_report_that_a_webhook_rejects_is_written_later() -> None:
    """Nothing else would correct the status of a group that does not change."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        cluster.reject_patches("phgroups", times=2)
        writer.receive(a_report(cluster, "1/1", 3))
        await asyncio.sleep(2 * RETRY_SECONDS)

    assert status_after(scenario)["pending"] == 3


def test_a_report_that_is_always_rejected_is_given_up() -> None:
    """The next change of the group is reported again."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        cluster.reject_patches("phgroups", times=MAX_REJECTIONS)
        writer.receive(a_report(cluster, "1/1", 3))
        await asyncio.sleep(2 * MAX_REJECTIONS * RETRY_SECONDS)
        group = cluster.store.get("phgroups", "vision")
        assert group
        assert "pending" not in group["status"]
        writer.receive(a_report(cluster, "1/2", 4))

    assert status_after(scenario)["pending"] == 4


def test_a_report_on_a_deleted_group_is_dropped() -> None:
    """A new group of the same name has another uid."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        report = a_report(cluster, "1/1", 1)
        cluster.store.remove("phgroups", "vision")
        cluster.store.create("phgroups", a_group("vision"))
        writer.receive(report)

    assert status_after(scenario) == {"fence": ""}


def test_a_report_that_the_api_server_rejects_is_dropped() -> None:
    """The next one is not affected."""

    async def scenario(writer: GroupStatusWriter, cluster: SimulatedPodManager) -> None:
        cluster.reject_patches("phgroups", times=1)
        writer.receive(a_report(cluster, "1/1", 1))
        await asyncio.sleep(10)
        writer.receive(a_report(cluster, "1/2", 2))

    assert status_after(scenario)["pending"] == 2
