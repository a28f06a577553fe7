"""Two hundred jobs at once: order, quota and outcome, also when all services are killed.

All of it is proven from the API server's own watch.
"""

import itertools
import signal

from tests.support import promises
from tests.support.hub import SERVICES, Hub
from tests.support.scene import Scene
from tests.support.waiting import eventually

GROUPS = 5
JOBS = 40
"""Of each group."""
AT_A_TIME = 4
USERS = ("bob", "lin", "pan")
KILLED_AT = (30, 80)
"""How many jobs are done when all services are killed."""

QUOTA = {"gpu": AT_A_TIME}


def submit_all(hub: Hub) -> list[Scene]:
    """Create them, the groups in turns, by one `kubectl create`; the groups."""
    scenes = [
        Scene(hub, f"group-{n}", {"userQuota": QUOTA, "groupQuota": QUOTA}).make() for n in range(GROUPS)
    ]
    users = itertools.cycle(USERS)
    hub.kubectl_create(
        *(
            scene.job(f"{scene.name}-{n}", gpus=1, user=next(users), run_for="1s")
            for n in range(JOBS)
            for scene in scenes
        )
    )
    return scenes


def done(hub: Hub, scenes: list[Scene]) -> int:
    """How many of them have ended."""
    return sum(len(hub.in_phase(scene.group, "Succeeded", "Failed", "Cancelled")) for scene in scenes)


def assert_all_promises_kept(hub: Hub, scenes: list[Scene]) -> None:
    """Wait for the end; hold what happened against the promises."""
    eventually(
        lambda: done(hub, scenes) == GROUPS * JOBS,
        "all jobs have ended",
        within=300,
        instead=lambda: f"{done(hub, scenes)} have",
    )
    events = hub.history.complete()
    for scene in scenes:
        assert not "\n\n".join(hub.story(name) for name in hub.in_phase(scene.group, "Failed", "Cancelled"))
        assert len(hub.in_phase(scene.group, "Succeeded")) == JOBS
        assert len(promises.entered_preparing(events, scene.group)) == JOBS
        assert not promises.out_of_order(events, scene.group)
        assert not promises.over_quota(events, scene.group, user_quota=QUOTA, group_quota=QUOTA)
        assert promises.most_used(events, scene.group, "gpu") == AT_A_TIME


def test_each_group_goes_in_order_and_never_over_its_quota(hub: Hub) -> None:
    """Two hundred jobs of five groups, each with room for four at a time."""
    assert_all_promises_kept(hub, submit_all(hub))


def test_all_four_killed_at_once_cost_neither_order_nor_quota_nor_a_job(hub: Hub) -> None:
    """As if the machine had lost its power, but for the broker and the API server."""
    scenes = submit_all(hub)
    for number in KILLED_AT:
        eventually(lambda number=number: done(hub, scenes) >= number, f"{number} jobs have ended", within=300)  # type: ignore[misc]
        for name in SERVICES:
            hub.service(name).kill(signal.SIGKILL)
        hub.stack.up()
    assert_all_promises_kept(hub, scenes)
