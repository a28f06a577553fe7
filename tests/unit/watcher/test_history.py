"""The history: the oldest of many reclaimed jobs, without keeping all of them in memory."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from tests.fakes.facts import at

from phjob_core.api import Object
from phjob_core.resource import Resource
from phjob_watcher import history


def a_reclaimed_job(name: str, finished: float, **spec: Any) -> dict[str, Any]:
    time = at(finished).isoformat().replace("+00:00", "Z")
    return {
        "kind": "PhJob",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {"groupName": "phusers", **spec},
        "status": {"phase": "Failed", "reclaimed": True, "finishTime": time},
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


async def test_the_oldest_of_all_pages_are_returned_oldest_first() -> None:
    """With the number of all, because the limit of the history counts them (spec.md, L11)."""
    kube = PagedKube(
        [a_reclaimed_job("c", 3), a_reclaimed_job("a", 1)],
        [a_reclaimed_job("d", 4)],
        [a_reclaimed_job("b", 2)],
    )
    total, oldest = await history.oldest_finished(kube, 3)  # type: ignore[arg-type]
    assert total == 4
    assert [(job.name, job.finish_time) for job in oldest] == [("a", at(1)), ("b", at(2)), ("c", at(3))]


async def test_only_reclaimed_jobs_are_listed() -> None:
    """All others are in the snapshots."""
    kube = PagedKube([])
    assert await history.oldest_finished(kube, 3) == (0, [])  # type: ignore[arg-type]
    assert kube.resource is not None
    assert (kube.resource.plural, kube.resource.field_selector) == ("phjobs", "status.reclaimed=true")


async def test_a_job_that_does_not_parse_counts_and_is_not_returned() -> None:
    """It must not hold up the others. It stays until somebody deletes it."""
    broken = a_reclaimed_job("broken", 0)
    del broken["status"]["finishTime"]
    kube = PagedKube([broken, a_reclaimed_job("a", 1)])
    total, oldest = await history.oldest_finished(kube, 3)  # type: ignore[arg-type]
    assert total == 2
    assert [job.name for job in oldest] == ["a"]
