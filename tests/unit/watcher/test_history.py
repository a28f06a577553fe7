"""The history: the finished jobs over a limit, without keeping all of them in memory."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from tests.fakes.facts import a_job, at

from phjob_core.api import Object, Phase
from phjob_core.messages import HistoryLimits, JobSeen
from phjob_core.resource import Resource
from phjob_watcher import history


def a_reclaimed_job(name: str, finished: float, **spec: Any) -> dict[str, Any]:
    time = at(finished).isoformat().replace("+00:00", "Z")
    return {
        "kind": "PhJob",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {"groupName": "phusers", **spec},
        "status": {"phase": "Failed", "reclaimed": True, "finishTime": time, "preparingTime": time},
    }


class PagedKube:
    """The port to the API server, with these pages of reclaimed jobs."""

    def __init__(self, *pages: Sequence[Object]) -> None:
        self._pages = pages
        self.resource: Resource | None = None

    async def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        self.resource = resource
        for page in self._pages:
            yield page


async def over_limit(kube: PagedKube, limits: HistoryLimits, *unreclaimed: JobSeen) -> tuple[int, list[str]]:
    """Return the number of reclaimed jobs, and the names of the jobs over a limit."""
    total, jobs = await history.jobs_over_limit(
        kube,  # type: ignore[arg-type]
        lambda: unreclaimed,
        {"phusers"},
        limits,
        3,
    )
    return total, [job.name for job in jobs]


async def test_the_oldest_jobs_of_all_pages_are_returned_oldest_first() -> None:
    """Those over the limits, with the number of all (spec.md, L11)."""
    kube = PagedKube(
        [a_reclaimed_job("c", 3), a_reclaimed_job("a", 1)],
        [a_reclaimed_job("d", 4)],
        [a_reclaimed_job("b", 2)],
    )
    assert await over_limit(kube, HistoryLimits(count=1)) == (4, ["a", "b", "c"])
    assert await over_limit(kube, HistoryLimits(finished_before=at(2))) == (4, ["a"])


async def test_only_reclaimed_jobs_are_listed() -> None:
    """All others are known already."""
    kube = PagedKube([])
    assert await over_limit(kube, HistoryLimits(count=1)) == (0, [])
    assert kube.resource is not None
    assert (kube.resource.plural, kube.resource.field_selector) == ("phjobs", "status.reclaimed=true")


async def test_finished_jobs_that_still_have_a_pod_count_as_well() -> None:
    """Their TTL may be forever (spec.md, L11)."""
    ended = a_job("with-pod", phase=Phase.FAILED, preparing_time=at(0), finish_time=at(2))
    waiting = a_job("waiting")
    kube = PagedKube([a_reclaimed_job("a", 1), a_reclaimed_job("c", 3)])
    assert await over_limit(kube, HistoryLimits(count=1), ended, waiting) == (2, ["a", "with-pod"])


async def test_a_job_that_is_being_deleted_is_not_chosen_and_keeps_no_other_from_it() -> None:
    """One user's finalizers would otherwise delete the records of all others (spec.md, L11)."""
    held = [a_reclaimed_job(f"held-{n}", n / 10) for n in range(5)]
    for item in held:
        item["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    kube = PagedKube(held, [a_reclaimed_job("a", 1), a_reclaimed_job("b", 2)])
    assert await over_limit(kube, HistoryLimits(count=2)) == (7, [])
    assert await over_limit(kube, HistoryLimits(finished_before=at(2))) == (7, ["a"])


async def test_jobs_that_never_ran_are_recognized() -> None:
    """They were never admitted (spec.md, L11)."""
    rejected = a_reclaimed_job("rejected", 1)
    del rejected["status"]["preparingTime"]
    cancelled = a_job("cancelled", phase=Phase.CANCELLED, finish_time=at(2))
    kube = PagedKube([rejected, a_reclaimed_job("a", 1)])
    limits = HistoryLimits(never_ran_before=at(9))
    assert await over_limit(kube, limits, cancelled) == (2, ["rejected", "cancelled"])


async def test_a_job_that_does_not_parse_counts_and_is_not_returned() -> None:
    """It must not hold up the others. It stays until somebody deletes it."""
    broken = a_reclaimed_job("broken", 0)
    del broken["status"]["finishTime"]
    kube = PagedKube([broken, a_reclaimed_job("a", 1)])
    assert await over_limit(kube, HistoryLimits(finished_before=at(9))) == (2, ["a"])
