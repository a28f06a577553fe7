"""Every transition of the state diagram (spec.md, L1), by a job on a real API server."""

from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.promises import ALLOWED_TRANSITIONS
from tests.support.waiting import eventually

PATHS: dict[tuple[str, ...], dict[str, Any]] = {
    ("Pending", "Preparing", "Running", "Succeeded"): {"run_for": "2s"},
    ("Pending", "Preparing", "Running", "Failed"): {"run_for": "2s", "exit_code": 1},
    ("Pending", "Preparing", "Running", "Cancelled"): {"run_for": FOREVER},
    ("Pending", "Preparing", "Cancelled"): {"start": "never"},
    ("Pending", "Preparing", "Failed"): {"start": "never", "requeueLimit": 0},
    ("Pending", "Preparing", "Pending", "Preparing"): {"start": "never"},
    ("Pending", "Preparing", "Succeeded"): {"start": "never"},
    ("Pending", "Cancelled"): {"cancel": True},
    ("Pending", "Failed"): {"image": "nowhere"},
}
"""Paths through the state diagram, and the fields of a job that takes each."""


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group without quotas."""
    return GroupFixture(cluster, "phusers").create()


def test_the_paths_contain_every_transition() -> None:
    """Otherwise a transition could remain untested."""
    transitions = {transition for path in PATHS for transition in zip(("", *path), path, strict=False)}
    assert transitions == {
        (before, after) for before, afters in ALLOWED_TRANSITIONS.items() for after in afters
    }


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_a_job_takes_each_path(cluster: Cluster, group: GroupFixture, path: tuple[str, ...]) -> None:
    """Its history has exactly these phases (spec.md, L1)."""
    name = group.submit("job", **PATHS[path])
    if path[-1] == "Cancelled" and "Preparing" in path:
        cluster.wait_for_phase(name, path[-2])
        cluster.cancel(name)
    elif "start" in PATHS[path]:
        cluster.wait_for_bound_pod(name)
        if path[-1] == "Succeeded":
            cluster.api.merge_patch("Pod", name, {"status": {"phase": "Succeeded"}}, subresource="status")
        else:
            cluster.api.delete(
                "Pod", name
            )  # The deletion by a third party counts as a requeue while the job is Preparing.
    eventually(
        lambda: tuple(cluster.phases(name)) == path,
        f"job {name} has taken the path {path}",
        diagnostics=lambda: cluster.phases(name),
    )
