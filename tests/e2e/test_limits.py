"""The limits of pending jobs, the caps of an administrator, and edits that concern nobody."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

ERRORS = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()


def is_documented(message: str, group: GroupFixture) -> bool:
    """Return whether docs/errors.md has the message, word for word, for the group `phusers`."""
    return f"```text\n{message.replace(group.name, 'phusers')}\n```" in ERRORS


@pytest.fixture
def capped(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Cluster]:
    """Start the stack with all caps. Afterwards, it has the usual settings again."""
    caps = "maxActiveDeadlineSeconds: 2, maxTTLSecondsAfterFinished: 1, maxRequeues: 1"
    with cluster_on(local_stack.start(f"jobSubmission: {{{caps}, preparingTimeoutSeconds: 5}}\n")) as cluster:
        yield cluster
    kwok_stack.up()


def test_a_new_job_over_the_limit_of_pending_jobs_fails_and_those_that_wait_stay(cluster: Cluster) -> None:
    """For each user, and for the group. Neither a restart nor a lower limit fails others (spec.md, Q11)."""
    limits = {"maxPendingPerUser": 2, "maxPending": 3, "groupQuota": {"gpu": 1}}
    group = GroupFixture(cluster, "phusers", limits).create()
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    waiting = [group.submit(f"waiting-{number}", gpus=1) for number in range(2)]
    of_user = group.submit("of-user", gpus=1)
    waiting.append(group.submit("of-lin", gpus=1, user="lin"))
    of_group = group.submit("of-group", gpus=1, user="ann")
    for name, limit in ((of_user, "maxPendingPerUser is 2"), (of_group, "maxPending is 3")):
        status = cluster.wait_for_phase(name, "Failed")
        assert status["reason"] == "TooManyPending"
        assert limit in status["message"]
        assert is_documented(status["message"], group)
        assert cluster.events(name) == []

    cluster.service("scheduler").kill(signal.SIGKILL)
    cluster.service("scheduler").start()
    cluster.service("scheduler").wait_ready()
    group.patch_spec(maxPendingPerUser=1, maxPending=1)
    wait_until_quiescent(cluster)
    cluster.cancel(running)
    for name in waiting:
        cluster.wait_for_phase(name, "Succeeded")


def test_a_job_with_a_reserved_name_fails(cluster: Cluster) -> None:
    """The scheduler rejects it where the chart's policy is not installed (spec.md, Q4)."""
    group = GroupFixture(cluster).create()
    manifest = group.job_manifest("job")
    manifest["metadata"]["name"] = "jupyter-bob"
    (name,) = cluster.create(manifest)
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "InvalidSpec"
    assert is_documented(status["message"], group)


def test_a_job_that_has_started_makes_room_for_the_next(cluster: Cluster) -> None:
    """Only jobs that wait count (spec.md, Q11)."""
    group = GroupFixture(cluster, "phusers", {"maxPendingPerUser": 1}).create()
    for number in range(3):
        cluster.wait_for_phase(group.submit(f"job-{number}", run_for=FOREVER), "Running")


def test_the_groups_cap_ends_a_job_without_a_deadline(cluster: Cluster) -> None:
    """It also applies to a job that runs already, and the message names it (spec.md, L8)."""
    group = GroupFixture(cluster).create()
    name = group.submit("forever", run_for=FOREVER, activeDeadlineSeconds=0)
    cluster.wait_for_phase(name, "Running")
    group.patch_spec(maxActiveDeadlineSeconds=1)
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "OverActiveDeadline"
    cap = "the cap of its group (maxActiveDeadlineSeconds)"
    assert status["message"] == f"it ran longer than its deadline of 1 s, {cap}"


def test_the_caps_of_the_settings_replace_unlimited(capped: Cluster) -> None:
    """The deadline, the TTL and the requeues, each with its message (spec.md, L8, L10, Q5)."""
    group = GroupFixture(capped).create()
    forever = group.submit("forever", run_for=FOREVER, activeDeadlineSeconds=0)
    stuck = group.submit("stuck", start="never")
    short = group.submit("short", ttlSecondsAfterFinished=0)
    status = capped.wait_for_phase(forever, "Failed")
    cap = "the cap of jobSubmission.maxActiveDeadlineSeconds"
    assert status["message"] == f"it ran longer than its deadline of 2 s, {cap}"
    status = capped.wait_for_phase(stuck, "Failed")
    assert status["reason"] == "OverRequeueLimit"
    assert status["message"].startswith("requeued 1 times, which is the cap of jobSubmission.maxRequeues: ")
    capped.wait_for_phase(short, "Succeeded")
    eventually(lambda: capped.status(short)["reclaimed"], f"{short} is reclaimed")
    cap = "the cap of jobSubmission.maxTTLSecondsAfterFinished"
    assert capped.status(short)["message"] == f"exit code 0; its pod was deleted after 1 s, {cap}"


def facts_about_jobs(local_stack: LocalStack) -> float:
    """Return the number of facts about jobs that the watcher has published."""
    facts = samples(local_stack.state, "watcher", "phjob_watcher_facts_total")
    return facts.get(("JobSeen",), 0)


def test_edits_that_no_service_reads_are_not_published(cluster: Cluster, local_stack: LocalStack) -> None:
    """A user who changes the title in a loop occupies nobody."""
    group = GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 1}}).create()
    running = group.submit("running", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    waiting = group.submit("waiting", gpus=1)
    for name in (running, waiting):
        cluster.patch_spec("PhJob", name, displayName="first")
    eventually(lambda: cluster.status(waiting).get("revision"), "its position is recorded")
    wait_until_quiescent(cluster)
    before = facts_about_jobs(local_stack)
    for number in range(100):
        for name in (running, waiting):
            cluster.patch_spec("PhJob", name, displayName=f"title {number}")
    wait_until_quiescent(cluster)
    # The job of `wait_until_quiescent` has a few, and so has the reason of the waiting one.
    assert facts_about_jobs(local_stack) - before < 50
