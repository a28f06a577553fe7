"""Compares the places and starts that `queue` and `why` predict with those of many random jobs.

PHJOB_PREDICTED_JOBS is their number. The figures in docs/why.md are for 500.
"""

import os
import random
from datetime import datetime, timedelta
from typing import Any

from tests.support import promises
from tests.support.cli import Cli
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.waiting import eventually

JOBS = int(os.environ.get("PHJOB_PREDICTED_JOBS", "40"))
PREVIOUS_JOBS = 20
"""Jobs that finish before the others are submitted. They are the recent run times."""
GPUS = 48
USERS = ("bob", "lin", "pan", "kim")
LONG_SECONDS = 900


def submit(group: GroupFixture, name: str, count: int, choice: random.Random) -> list[str]:
    """Create jobs of 1, 2 or 4 GPUs that run for 1 to 8 s, with one `kubectl create`."""
    return group.cluster.kubectl_create(
        *(
            group.job_manifest(
                f"{name}-{n}",
                gpus=choice.choice((1, 2, 4)),
                user=choice.choice(USERS),
                run_for=f"{choice.randint(1, 8)}s",
            )
            for n in range(count)
        )
    )


def count_finished(cluster: Cluster, group: GroupFixture) -> int:
    return len(cluster.jobs_in_phase(group.name, "Succeeded"))


def wait_for_finished(cluster: Cluster, group: GroupFixture, count: int) -> None:
    """Wait until at least this many jobs of the group have finished."""
    description = f"{count} jobs have finished"
    eventually(lambda: count_finished(cluster, group) >= count, description, within=LONG_SECONDS)


def starts(cluster: Cluster, group: GroupFixture) -> dict[str, datetime]:
    """Return when each job of the group was first observed in Preparing."""
    found: dict[str, datetime] = {}
    for event in cluster.history.complete_events():
        if event.kind == "PhJob" and event.group == group.name and event.phase == "Preparing":
            found.setdefault(event.name, event.observed_at)
    return found


def record_predictions(cluster: Cluster, cli: Cli, group: GroupFixture, total: int) -> list[dict[str, Any]]:
    """Run `queue` five times until all jobs have finished.

    Returns the rows of all pending jobs.
    """
    predictions: list[dict[str, Any]] = []
    for share in range(5):
        wait_for_finished(cluster, group, PREVIOUS_JOBS + total * share // 5)
        predictions += cli.json("queue", group.name, "--limit", "0")["queue"]
    eventually(
        lambda: count_finished(cluster, group) == PREVIOUS_JOBS + total,
        "all jobs have finished",
        within=LONG_SECONDS,
    )
    return predictions


def accuracy(predictions: list[dict[str, Any]], actual: dict[str, datetime]) -> str:
    """Return how the estimates compare with the actual starts, as text."""
    rows = []
    for job in predictions:
        estimate = job.get("estimate") or {}
        if "p50" in estimate and "p90" in estimate:
            # The output has whole seconds.
            p50, p90 = (datetime.fromisoformat(estimate[key]) for key in ("p50", "p90"))
            rows.append((actual[job["name"]], p50, p90 + timedelta(seconds=1)))
    if not rows:
        return "all were admitted at once, without an estimate"
    between = sum(p50 <= start <= p90 for start, p50, p90 in rows) / len(rows)
    by_p50 = sum(start <= p50 + timedelta(seconds=1) for start, p50, _ in rows) / len(rows)
    by_p90 = sum(start <= p90 for start, _, p90 in rows) / len(rows)
    errors = sorted(abs((start - p50).total_seconds()) for start, p50, _ in rows)
    return (
        f"{len(rows)} of {len(predictions)} had an estimate; "
        f"started by p50: {by_p50:.0%}, by p90: {by_p90:.0%}, within p50..p90: {between:.0%}; "
        f"distance from p50: {errors[len(errors) // 2]:.1f} s (median), "
        f"{errors[len(errors) * 9 // 10]:.1f} s (90 %)"
    )


def test_under_a_group_quota_jobs_are_admitted_in_their_places(
    cluster: Cluster, report_measurement: MeasurementReporter
) -> None:
    """A notebook blocks all jobs while the queue is read, and is then deleted."""
    cli, choice = Cli(cluster.stack.kubeconfig), random.Random(11)  # noqa: S311 - a repeatable choice
    group = GroupFixture(cluster, "vision", {"groupQuota": {"gpu": GPUS}}).create()
    submit(group, "before", PREVIOUS_JOBS, choice)
    eventually(
        lambda: count_finished(cluster, group) == PREVIOUS_JOBS,
        "the previous jobs have finished",
        within=LONG_SECONDS,
    )
    notebook = group.start_notebook("jupyter", gpus=GPUS)
    eventually(lambda: cluster.pod(notebook), "the notebook exists")
    names = submit(group, "job", JOBS, choice)
    eventually(
        lambda: len(cluster.jobs_in_phase(group.name, "Pending")) == JOBS,
        "all jobs are pending",
        within=LONG_SECONDS,
    )
    cluster.wait_for_reason(names[0], "GroupQuota")

    queue = cli.json("queue", group.name, "--limit", "0")["queue"]
    assert [job["place"] for job in queue] == list(range(1, JOBS + 1))
    for job in choice.sample(queue, 5):
        assert cli.json("why", job["name"])["place"] == job["place"]
    assert "p50" not in queue[0]["estimate"], "a notebook has no known end"

    cluster.api.delete("Pod", notebook)
    predictions = record_predictions(cluster, cli, group, JOBS)
    admitted = promises.admission_order(cluster.history.complete_events(), group.name)[PREVIOUS_JOBS:]
    assert admitted == [job["name"] for job in queue]
    result = accuracy(predictions, starts(cluster, group))
    report_measurement(f"{JOBS} jobs, group quota: all admitted in their places; {result}")


def test_under_user_quotas_the_estimate_includes_overtaking(
    cluster: Cluster, report_measurement: MeasurementReporter
) -> None:
    """A job that waits for its user's quota is overtaken, although its place is before the others."""
    cli, choice, jobs = Cli(cluster.stack.kubeconfig), random.Random(12), max(JOBS // 3, 20)  # noqa: S311 - a repeatable choice
    quota = {"groupQuota": {"gpu": GPUS // 2}, "userQuota": {"gpu": GPUS // 6}}
    group = GroupFixture(cluster, "speech", quota).create()
    submit(group, "before", PREVIOUS_JOBS, choice)
    eventually(
        lambda: count_finished(cluster, group) == PREVIOUS_JOBS,
        "the previous jobs have finished",
        within=LONG_SECONDS,
    )
    submit(group, "job", jobs, choice)
    predictions = record_predictions(cluster, cli, group, jobs)
    actual = starts(cluster, group)
    report_measurement(f"{jobs} jobs, user and group quota: {accuracy(predictions, actual)}")
    assert {job["name"] for job in predictions} <= actual.keys()
