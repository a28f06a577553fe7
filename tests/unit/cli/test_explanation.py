from datetime import timedelta

from tests.fakes.facts import START, a_group, a_job, at, later
from tests.fakes.group_snapshots import NOW, a_notebook, a_snapshot, finished, running

from phjob_cli.explanation import Cause, Explanation, explain
from phjob_cli.snapshot import Facts, GroupSnapshot
from phjob_core.api import Phase


def explained(snapshot: GroupSnapshot, name: str, pod_problem: str = "") -> Explanation:
    (job,) = (job for job in snapshot.facts.jobs if job.name == name)
    return explain(snapshot, job, pod_problem)


def test_a_job_with_room_is_next() -> None:
    """It is the first in a free queue, and starts now."""
    found = explained(a_snapshot(a_job(created=at(99))), "job-1")
    assert (found.cause, found.position, found.pending) == (Cause.NEXT, 1, 1)
    assert found.estimate
    assert found.estimate.p90 == NOW


def test_a_job_that_has_room_for_long_shows_that_services_do_not_work() -> None:
    """Otherwise a user would wait for a scheduler that is not running."""
    assert explained(a_snapshot(a_job(created=START)), "job-1").cause is Cause.NOT_ADMITTED


def test_a_head_short_of_group_quota_shows_who_holds_it() -> None:
    """The allocation has its owner and its latest end."""
    job, pod = running("long", 2, user="lin", active_deadline_seconds=600)
    found = explained(a_snapshot(job, pod, a_job(instance_type="gpu-4")), "job-1")
    assert found.cause is Cause.GROUP_QUOTA
    assert found.detail == "group quota: gpu 2 of 4 used, needs 4"
    (held,) = found.allocations
    assert (held.name, held.user, held.latest_end, held.is_notebook) == ("long", "lin", at(600), False)
    assert found.short_resources == ("gpu",)


def test_a_head_short_of_user_quota_shows_its_users_jobs_only() -> None:
    """The jobs of other users do not count in a user quota."""
    group = a_group(group_quota={"gpu": 8}, user_quota={"gpu": 2})
    others = running("of-lin", 2, user="lin")
    found = explained(a_snapshot(*running("mine", 2), *others, a_job(), group=group), "job-1")
    assert (found.cause, found.detail) == (Cause.USER_QUOTA, "user quota: gpu 2 of 2 used, needs 1")
    assert [held.name for held in found.allocations] == ["mine"]


def test_a_notebook_that_holds_the_missing_quota_is_the_cause() -> None:
    """The end of a job would not help, and a notebook has no known end."""
    found = explained(a_snapshot(a_notebook(3), a_job(instance_type="gpu-2")), "job-1")
    assert found.cause is Cause.NOTEBOOKS
    assert found.detail == "group quota: gpu 3 of 4 used, needs 2; notebooks hold the quota"
    assert "jupyter-lin" in found.next_step
    assert found.estimate
    assert found.estimate.p50 is None


def test_a_notebook_that_holds_too_little_is_not_the_cause() -> None:
    """Jobs hold too much even without the notebook."""
    seen = (*running("long", 3, user="pan"), a_notebook(1), a_job(instance_type="gpu-2"))
    found = explained(a_snapshot(*seen), "job-1")
    assert found.cause is Cause.GROUP_QUOTA
    assert {held.name for held in found.allocations} == {"long", "jupyter-lin"}


def test_a_job_behind_the_head_shows_all_jobs_ahead_in_order() -> None:
    """The head, with its shortage, is the cause."""
    snapshot = a_snapshot(
        *running("long", 2, user="lin"),
        a_job("head", instance_type="gpu-4", created=at(1)),
        a_job("second", user="pan", created=at(2)),
        a_job("third", user="lin", created=at(3)),
    )
    found = explained(snapshot, "third")
    assert found.cause is Cause.BEHIND_HEAD
    assert found.detail == "it waits behind head: group quota: gpu 2 of 4 used, needs 4"
    assert (found.position, found.pending) == (3, 3)
    assert list(found.ahead) == ["head (bob, gpu 4)", "second (pan, gpu 1)"]


def test_a_job_behind_a_job_of_its_own_user_shows_only_those() -> None:
    """It does not wait for another user's job in between."""
    group = a_group(group_quota={"gpu": 8}, user_quota={"gpu": 2})
    snapshot = a_snapshot(
        *running("mine", 2),
        *running("of-pan", 2, user="pan"),
        a_job("first", created=at(1)),
        a_job("other", user="pan", created=at(2)),
        a_job("second", created=at(3)),
        group=group,
    )
    found = explained(snapshot, "second")
    assert (found.cause, list(found.ahead)) == (Cause.BEHIND_OWN_JOB, ["first (bob, gpu 1)"])
    assert found.position == 3


def test_a_job_in_backoff_shows_its_end_and_the_reason_of_the_requeue() -> None:
    """The job keeps its position."""
    job = a_job(requeued=2, requeue_after=at(130), message="the pod did not start within 180 s")
    found = explained(a_snapshot(job), "job-1")
    assert found.cause is Cause.BACKOFF
    assert found.detail == (
        "requeued 2 times, in backoff until 00:02:10 UTC: the pod did not start within 180 s"
    )
    assert found.position == 1
    assert found.estimate
    assert found.estimate.p90 == at(130)


def test_a_job_that_can_never_run_has_the_schedulers_message() -> None:
    """It is too large, or names something that does not exist."""
    group = a_group(group_quota={"gpu": 2})
    found = explained(a_snapshot(a_job(instance_type="gpu-4", created=NOW), group=group), "job-1")
    assert (found.cause, found.position) == (Cause.IMPOSSIBLE, None)
    assert found.detail == "OverQuota: instance type 'gpu-4' needs gpu 4, but the group quota is 2"
    unknown = explained(a_snapshot(a_job(image="nope", created=NOW)), "job-1")
    assert unknown.detail == "InvalidSpec: image 'nope' does not exist"


def test_the_step_for_a_pod_that_does_not_start_depends_on_its_problem() -> None:
    """The problem itself is shown as pod-manager describes it."""
    job, _ = running("job-1", 1)
    snapshot = a_snapshot(later(job, phase=Phase.PREPARING, start_time=None))
    problem = "its image cannot be pulled: ErrImagePull: not found"
    found = explained(snapshot, "job-1", problem)
    assert (found.cause, found.detail) == (Cause.STARTING, problem)
    assert "url" in found.next_step
    assert "cluster" in explained(snapshot, "job-1", "no node can take it: ...").next_step
    assert "start timeout" in explained(snapshot, "job-1", "a volume cannot be mounted: ...").next_step
    assert explained(snapshot, "job-1").next_step.startswith("wait")


def test_a_running_job_shows_its_node_and_its_deadline() -> None:
    """Without a deadline, only the node."""
    job, pod = running("job-1", 1, active_deadline_seconds=7200)
    assert explained(a_snapshot(job, pod), "job-1").detail == "on node-1, for 2 h at most"
    job, pod = running("job-1", 1)
    assert explained(a_snapshot(job, pod), "job-1").detail == "on node-1"


def test_a_job_on_a_lost_node_has_the_message_of_its_status() -> None:
    """It still runs, so nothing else would show it."""
    message = "Node node-1 which was running pod job-1 is unresponsive"
    job, pod = running("job-1", 1, reason="NodeLost", message=message)
    found = explained(a_snapshot(job, pod), "job-1")
    assert (found.cause, found.detail) == (Cause.NODE_LOST, message)


def test_a_finished_job_shows_its_outcome_and_what_to_do_next() -> None:
    """A failed job can be retried."""
    job = a_job(phase=Phase.FAILED, reason="Error", message="exit code 1 (Error)")
    found = explained(a_snapshot(job), "job-1")
    assert (found.cause, found.detail) == (Cause.FINISHED, "Error: exit code 1 (Error)")
    assert "retry" in found.next_step


def test_a_job_over_the_limit_of_pending_jobs_shows_when_to_submit_it_again() -> None:
    """It has no log, and nothing about it has to be corrected."""
    job = a_job(phase=Phase.FAILED, reason="TooManyPending", message="2 pending jobs", finish_time=NOW)
    found = explained(a_snapshot(job), "job-1")
    assert found.detail == "TooManyPending: 2 pending jobs"
    assert found.next_step == "when fewer jobs wait: kubectl phjob retry job-1"


def test_the_newest_of_too_many_pending_jobs_is_about_to_fail() -> None:
    """The limit of the PhGroup is known here, the setting is not (spec.md, Q11)."""
    group = a_group(group_quota={"gpu": 2}, max_pending_per_user=1)
    jobs = [a_job(f"job-{n}", instance_type="gpu-2", created=at(90 + n)) for n in range(2)]
    found = explained(a_snapshot(*running("long", 2), *jobs, group=group), "job-1")
    assert found.cause is Cause.IMPOSSIBLE
    assert found.detail.startswith("TooManyPending: user 'bob' has 1 pending jobs")


def test_an_estimate_uses_the_run_times_of_recent_jobs() -> None:
    """Each took 200 s, and the running job has run for 100 s."""
    seen = [finished(f"old-{n}", 200) for n in range(5)]
    found = explained(a_snapshot(*seen, *running("long", 4), a_job()), "job-1")
    assert found.estimate
    assert found.estimate.p50 == NOW + timedelta(seconds=100)


def test_a_job_that_was_possible_waits_until_it_is_possible_again() -> None:
    """A changed quota does not fail it (spec.md, Q4)."""
    snapshot = a_snapshot(a_job(instance_type="gpu-4"), group=a_group(group_quota={"gpu": 2}))
    found = explained(snapshot, "job-1")
    assert (found.cause, found.position) == (Cause.UNAVAILABLE, None)
    reason = "OverQuota: instance type 'gpu-4' needs gpu 4, but the group quota is 2"
    assert found.detail == f"{reason}; the job waits until this is corrected"


def test_a_job_of_a_group_that_does_not_exist_is_impossible() -> None:
    """Such a group has no queue."""
    snapshot = GroupSnapshot(Facts("gone", None, [a_job(group="gone", created=NOW)], ()), NOW)
    assert explained(snapshot, "job-1").detail == "InvalidSpec: group 'gone' does not exist"


def test_a_suspended_job_is_outside_the_queue_and_can_be_resumed() -> None:
    """It has no position and no estimate, and it blocks no other job."""
    snapshot = a_snapshot(a_job("first", suspend=True), a_job("second", created=at(99)))
    found = explained(snapshot, "first")
    assert (found.cause, found.position, found.estimate) == (Cause.SUSPENDED, None, None)
    assert found.detail == "spec.suspend is true: the job keeps its place and blocks no other job"
    assert found.next_step == "kubectl phjob resume first"
    assert explained(snapshot, "second").cause is Cause.NEXT


def test_a_retried_job_in_its_backoff_shows_why_its_command_runs_again() -> None:
    """Nobody has to fix anything."""
    message = "retry 1 of 3 (Failure): exit code 1 (Error)"
    job = a_job(reason="Retried", retried=1, requeue_after=at(130), message=message, fence="s#1")
    found = explained(a_snapshot(job), "job-1")
    assert found.cause is Cause.BACKOFF
    assert found.detail == f"in backoff until 00:02:10 UTC: {message}"
    assert found.next_step.startswith("nothing to do")
