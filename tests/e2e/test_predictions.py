"""What `queue` and `why` foretell, against what then happens, over many jobs of random size.

PHJOB_PREDICTED_JOBS says how many; 500 is what the figures in docs/why.md are of.
"""

import os
import random
from datetime import datetime, timedelta
from typing import Any

from tests.support import promises
from tests.support.cli import Cli
from tests.support.hub import Hub
from tests.support.measures import Measured
from tests.support.scene import Scene
from tests.support.waiting import eventually

JOBS = int(os.environ.get("PHJOB_PREDICTED_JOBS", "40"))
BEFORE = 20
"""Jobs that end before: the recent run times."""
GPUS = 48
USERS = ("bob", "lin", "pan", "kim")
LONG = 900


def submit(scene: Scene, name: str, count: int, choice: random.Random) -> list[str]:
    """Create jobs of 1, 2 or 4 GPUs that run for 1 to 8 s, by one `kubectl create`."""
    return scene.hub.kubectl_create(
        *(
            scene.job(
                f"{name}-{n}",
                gpus=choice.choice((1, 2, 4)),
                user=choice.choice(USERS),
                run_for=f"{choice.randint(1, 8)}s",
            )
            for n in range(count)
        )
    )


def ended(hub: Hub, scene: Scene) -> int:
    return len(hub.in_phase(scene.group, "Succeeded"))


def starts(hub: Hub, scene: Scene) -> dict[str, datetime]:
    """When each job of the group was seen to enter Preparing."""
    found: dict[str, datetime] = {}
    for event in hub.history.complete():
        if event.kind == "PhJob" and event.group == scene.group and event.phase == "Preparing":
            found.setdefault(event.name, event.seen)
    return found


def look_on(hub: Hub, cli: Cli, scene: Scene, total: int) -> list[dict[str, Any]]:
    """Ask for the queue again and again until all have ended; what each of those who waited was told."""
    told: list[dict[str, Any]] = []
    for share in range(5):
        eventually(
            lambda share=share: ended(hub, scene) >= BEFORE + total * share // 5,  # type: ignore[misc]
            f"{share} fifths have ended",
            within=LONG,
        )
        told += cli.json("queue", scene.group, "--limit", "0")["queue"]
    eventually(lambda: ended(hub, scene) == BEFORE + total, "all have ended", within=LONG)
    return told


def how_good(told: list[dict[str, Any]], began: dict[str, datetime]) -> str:
    """How the estimates compare with the starts."""
    rows = []
    for job in told:
        estimate = job.get("estimate") or {}
        if "p50" in estimate and "p90" in estimate:
            # Times are written in whole seconds.
            p50, p90 = (datetime.fromisoformat(estimate[key]) for key in ("p50", "p90"))
            rows.append((began[job["name"]], p50, p90 + timedelta(seconds=1)))
    if not rows:
        return "all went at once, nobody was given an estimate"
    between = sum(p50 <= start <= p90 for start, p50, p90 in rows) / len(rows)
    by_p50 = sum(start <= p50 + timedelta(seconds=1) for start, p50, _ in rows) / len(rows)
    by_p90 = sum(start <= p90 for start, _, p90 in rows) / len(rows)
    errors = sorted(abs((start - p50).total_seconds()) for start, p50, _ in rows)
    return (
        f"{len(rows)} of {len(told)} had an estimate; started by p50: {by_p50:.0%}, by p90: {by_p90:.0%}, "
        f"within p50..p90: {between:.0%}; off from p50 by {errors[len(errors) // 2]:.1f} s in the middle, "
        f"{errors[len(errors) * 9 // 10]:.1f} s at 90 %"
    )


def test_under_a_group_quota_jobs_are_admitted_in_the_places_that_were_told(
    hub: Hub, measured: Measured
) -> None:
    """All wait behind a notebook while the queue is asked for; then it is stopped."""
    cli, choice = Cli(hub.stack.kubeconfig), random.Random(11)  # noqa: S311 - a repeatable choice
    scene = Scene(hub, "vision", {"groupQuota": {"gpu": GPUS}}).make()
    submit(scene, "before", BEFORE, choice)
    eventually(lambda: ended(hub, scene) == BEFORE, "those before have ended", within=LONG)
    notebook = scene.notebook("jupyter", gpus=GPUS)
    eventually(lambda: hub.pod(notebook), "the notebook is there")
    names = submit(scene, "job", JOBS, choice)
    eventually(lambda: len(hub.in_phase(scene.group, "Pending")) == JOBS, "all wait", within=LONG)
    hub.says(names[0], "GroupQuota")

    queue = cli.json("queue", scene.group, "--limit", "0")["queue"]
    assert [job["place"] for job in queue] == list(range(1, JOBS + 1))
    for job in choice.sample(queue, 5):
        assert cli.json("why", job["name"])["place"] == job["place"]
    assert "p50" not in queue[0]["estimate"], "nobody knows when a notebook ends"

    hub.api.delete("Pod", notebook)
    told = look_on(hub, cli, scene, JOBS)
    admitted = promises.entered_preparing(hub.history.complete(), scene.group)[BEFORE:]
    assert admitted == [job["name"] for job in queue]
    measured(
        f"{JOBS} jobs, group quota: all admitted in the places told; {how_good(told, starts(hub, scene))}"
    )


def test_under_user_quotas_the_estimate_knows_who_overtakes_whom(hub: Hub, measured: Measured) -> None:
    """Places are those of the line; who waits for his own quota is overtaken, as far as can be foreseen."""
    cli, choice, jobs = Cli(hub.stack.kubeconfig), random.Random(12), max(JOBS // 3, 20)  # noqa: S311 - a repeatable choice
    quota = {"groupQuota": {"gpu": GPUS // 2}, "userQuota": {"gpu": GPUS // 6}}
    scene = Scene(hub, "speech", quota).make()
    submit(scene, "before", BEFORE, choice)
    eventually(lambda: ended(hub, scene) == BEFORE, "those before have ended", within=LONG)
    submit(scene, "job", jobs, choice)
    told = look_on(hub, cli, scene, jobs)
    began = starts(hub, scene)
    measured(f"{jobs} jobs, user and group quota: {how_good(told, began)}")
    assert {job["name"] for job in told} <= began.keys()
