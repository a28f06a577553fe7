"""Every arrow of the seed's state diagram, taken by a real job on a real API server."""

from typing import Any

import pytest
from tests.support.hub import Hub
from tests.support.promises import MOVES
from tests.support.scene import FOREVER, Scene
from tests.support.waiting import eventually

LIVES: dict[tuple[str, ...], dict[str, Any]] = {
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
"""The phases of a job's life, and what makes it so."""


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group without quotas."""
    return Scene(hub, "phusers").make()


def test_the_lives_below_take_every_arrow() -> None:
    """Else one would be left out unnoticed."""
    taken = {move for life in LIVES for move in zip(("", *life), life, strict=False)}
    assert taken == {(before, after) for before, afters in MOVES.items() for after in afters}


@pytest.mark.parametrize("life", LIVES, ids=" ".join)
def test_a_job_takes_each_arrow(hub: Hub, scene: Scene, life: tuple[str, ...]) -> None:
    """Seed, State Diagram."""
    name = scene.submit("job", **LIVES[life])
    if life[-1] == "Cancelled" and "Preparing" in life:
        hub.reaches(name, life[-2])
        hub.cancel(name)
    elif "start" in LIVES[life]:
        pod = eventually(lambda: hub.pod(name), "its pod is there")
        if life[-1] == "Succeeded":
            eventually(lambda: (pod := hub.pod(name)) and pod.object["spec"].get("nodeName"), "on a node")
            hub.api.merge("Pod", name, {"status": {"phase": "Succeeded"}}, subresource="status")
        else:
            hub.api.delete("Pod", pod.name)  # By hand: while Preparing it counts as a requeue.
    eventually(lambda: tuple(hub.phases(name)) == life, f"it went {life}", instead=lambda: hub.phases(name))
