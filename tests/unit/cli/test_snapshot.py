from datetime import timedelta

from tests.fakes.facts import START, a_group, a_job, a_pod, at
from tests.fakes.group_snapshots import NOW, a_notebook, a_snapshot, finished, running

from phjob_cli.snapshot import MAX_RECENT_JOBS, Facts, GroupSnapshot, recent_run_times
from phjob_core.api import Phase, PodPhase
from phjob_core.labels import label_value


def test_pending_jobs_are_in_the_order_of_the_queue() -> None:
    """A job in backoff keeps its position; a cancelled or impossible job has none."""
    in_backoff = a_job("first", created=at(1), requeued=1, requeue_after=at(200))
    cancelled = a_job("cancelled", created=at(2), cancel=True)
    impossible = a_job("impossible", created=NOW, image="nope")
    second = a_job("second", created=at(4))
    snapshot = a_snapshot(second, cancelled, impossible, in_backoff)
    assert [job.name for job in snapshot.pending] == ["first", "second"]
    assert [snapshot.position(job) for job in (in_backoff, second, cancelled, impossible)] == [
        1,
        2,
        None,
        None,
    ]
    assert set(snapshot.rejected) == {impossible.uid}


def test_admissible_jobs_are_those_that_the_scheduler_would_admit() -> None:
    """The quota of 4 GPUs has room for two of the three jobs."""
    jobs = [a_job(f"job-{n}", instance_type="gpu-2", created=at(n)) for n in range(3)]
    snapshot = a_snapshot(*jobs)
    assert snapshot.admissible == {jobs[0].uid, jobs[1].uid}
    assert snapshot.before(jobs[2]) == []


def test_a_job_waits_for_room_a_backoff_or_the_jobs_before_it() -> None:
    """Only the head shows numbers."""
    in_backoff = a_job("backoff", created=at(1), requeued=1, requeue_after=at(200))
    head = a_job("head", instance_type="gpu-4", created=at(2))
    behind = a_job("behind", created=at(3))
    snapshot = a_snapshot(*running("long", 2, user="lin"), in_backoff, head, behind)
    assert snapshot.waits_for(in_backoff) == "backoff until 00:03:20 UTC"
    assert snapshot.waits_for(head) == "group quota: gpu 2 of 4 used, needs 4"
    assert snapshot.waits_for(behind) == "the jobs before it"
    assert snapshot.before(behind) == [head]
    assert a_snapshot(head).waits_for(head) == "nothing: about to be admitted"


def test_needs_are_the_resources_that_a_quota_limits() -> None:
    """Without quotas, they are all resources."""
    job = a_job(instance_type="gpu-2")
    assert a_snapshot(job).needs(job) == "gpu 2"
    assert a_snapshot(job, group=a_group()).needs(job) == "gpu 2, cpu 1"


def test_allocations_are_jobs_and_notebooks_the_oldest_first() -> None:
    """A job has its latest end, and a notebook has none."""
    job, pod = running("long", 2, user="lin", active_deadline_seconds=600)
    found = a_snapshot(job, pod, a_notebook(1)).allocations()
    assert [(held.name, held.is_notebook, held.latest_end) for held in found] == [
        ("jupyter-lin", True, None),
        ("long", False, at(600)),
    ]
    assert [held.amounts["gpu"] for held in found] == [1, 2]


def test_a_pod_whose_job_was_deleted_is_no_notebook() -> None:
    """It holds quota until it ends."""
    job, pod = running("deleted", 2)
    (held,) = a_snapshot(pod).allocations()
    assert (held.name, held.user, held.is_notebook) == (job.name, "bob", False)


def test_a_user_has_the_name_that_jobs_and_members_give() -> None:
    """A pod carries a label value, which cannot contain every character of a name."""
    name = "bob@example.com"
    group = a_group(users=(name,))
    assert a_snapshot(group=group).user_name(label_value(name)) == name
    assert a_snapshot(a_job(user=name)).user_name(label_value(name)) == name
    assert a_snapshot().user_name("lin") == "lin"


def test_a_deadline_is_the_jobs_or_its_groups() -> None:
    """The services' default is unknown here."""
    group = a_group(default_active_deadline_seconds=60)
    own, none = a_job(active_deadline_seconds=30), a_job()
    assert a_snapshot(group=group).deadline(own) == timedelta(seconds=30)
    assert a_snapshot(group=group).deadline(none) == timedelta(seconds=60)
    assert a_snapshot().deadline(none) is None
    capped = a_snapshot(group=a_group(max_active_deadline_seconds=40))
    unlimited = a_job(active_deadline_seconds=0)
    assert capped.deadline(own) == timedelta(seconds=30)
    assert capped.deadline(none) == capped.deadline(unlimited) == timedelta(seconds=40)


def test_an_estimate_is_now_for_an_admissible_job() -> None:
    """All others come from the forecast; a job that is not pending has none."""
    first, second = (
        a_job("first", instance_type="gpu-4"),
        a_job("second", instance_type="gpu-4", created=at(1)),
    )
    job, pod = running("running", 1)
    estimates = a_snapshot(first, second).estimates([first.uid, second.uid, "unknown"])
    assert estimates[first.uid].p90 == NOW
    assert estimates[second.uid].unknown
    assert "unknown" not in estimates
    assert a_snapshot(job, pod).estimates([job.uid]) == {}


def test_a_group_that_does_not_exist_has_an_empty_queue() -> None:
    """Its jobs are rejected."""
    snapshot = GroupSnapshot(Facts("gone", None, [a_job(group="gone", created=NOW)], ()), NOW)
    assert (snapshot.pending, snapshot.allocations(), len(snapshot.rejected)) == ([], [], 1)


def test_a_gated_pod_holds_no_quota() -> None:
    """Nothing runs in it before its job is admitted."""
    job = a_job(created=START)
    pod = a_pod(job, gated=True, phase=PodPhase.PENDING)
    assert a_snapshot(job, pod).allocations() == a_snapshot(job).allocations()


def test_run_times_are_those_of_the_last_jobs_that_ran() -> None:
    """Cancelled jobs, and jobs that never started, do not count."""
    jobs = [finished(f"old-{n}", 10 + n) for n in range(MAX_RECENT_JOBS + 5)]
    never_started = a_job("invalid", phase=Phase.FAILED, finish_time=at(1))
    cancelled = finished("cancelled", 9999).model_copy(update={"phase": Phase.CANCELLED})
    times = recent_run_times([cancelled, never_started, *jobs])
    assert len(times) == MAX_RECENT_JOBS
    assert times.quantile(0) == timedelta(seconds=15)
