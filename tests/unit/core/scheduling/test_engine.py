from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later
from tests.fakes.held import collections
from tests.fakes.objects import a_pod_object, an_object

from phjob_core.api import Phase, PodPhase, Reason
from phjob_core.catalog_projection import project_group
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import Admit, Command, GroupSeen, JobSeen, PodSeen, Reject, SetPendingReason
from phjob_core.pod_limits import RESOURCE_CLAIMS
from phjob_core.projection import project_pod
from phjob_core.scheduling.acceptance import NO_LIMITS, PendingLimits
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.outstanding_admissions import RESERVATION_TIMEOUT
from phjob_core.scheduling.rejections import MAX_OUTSTANDING

NEWER_THAN_ALL = 10**9


def an_engine(
    *jobs: JobSeen,
    group: GroupSeen | None = None,
    started: bool = True,
    limits: PendingLimits = NO_LIMITS,
    gpu_resources: GpuResources | None = None,
) -> SchedulingEngine:
    """An engine that knows the whole catalog and these jobs. Its first commands are dropped."""
    engine = SchedulingEngine("session", limits, gpus=gpu_resources)
    engine.on_catalog_synced(NEWER_THAN_ALL, START)
    for gpus in (1, 2, 4):
        name = f"gpu-{gpus}"
        engine.catalog.instance_types[name] = an_instance_type(name, gpus)
    engine.catalog.images["base-notebook"] = an_image()
    quota = {"gpu": 4}
    engine.on_group(group or a_group(user_quota=quota, group_quota=quota), START)
    for job in jobs:
        engine.on_job(job, START)
    if started:
        engine.start(START)
    return engine


def names(commands: list[Command]) -> list[str]:
    return [command.name for command in commands if isinstance(command, Admit)]


def admission_of(job: JobSeen, command: Command) -> JobSeen:
    """The job as it is observed after the command was executed."""
    assert isinstance(command, Admit)
    return later(
        job, phase=Phase.PREPARING, fence=command.token, preparing_time=START, resources=command.resources
    )


def gpus(engine: SchedulingEngine) -> int:
    """The GPUs that the only group uses."""
    (queue,) = engine.queues.values()
    return queue.ledger.group_usage["gpu"]


def only_admit(commands: list[Command]) -> Admit:
    (command,) = commands
    assert isinstance(command, Admit)
    return command


def test_there_are_no_commands_before_the_snapshot_is_complete() -> None:
    """An incomplete snapshot may lack charges, and a decision on it could exceed the quota."""
    engine = an_engine(started=False)
    assert engine.on_job(a_job(), START) == []
    assert names(engine.start(START)) == ["job-1"]


def test_the_pod_of_a_job_that_had_finished_at_the_start_is_charged_until_it_is_known_to_be_gone() -> None:
    """The snapshot lists jobs before pods, and a cancelled job's pod may run for its grace period."""
    engine = an_engine(started=False)
    finished = a_job("finished", phase=Phase.CANCELLED, pod_uid="pod", resources={"nvidia.com/gpu": 4})
    engine.on_job(finished, START)
    engine.on_job(a_job("next"), START)
    assert names(engine.start(START)) == []
    assert names(engine.on_pods_synced(finished.resource_version, START)) == ["next"]


def test_the_end_of_a_job_that_is_not_known_changes_nothing() -> None:
    """A job can be finished before it is first observed, and deleted afterwards."""
    engine = an_engine(a_job())
    before = dict(engine.jobs)
    assert engine.on_job(a_job("unknown", phase=Phase.SUCCEEDED), START) == []
    assert engine.on_job_gone("uid-unknown", START) == []
    assert engine.jobs == before


def test_an_admission_has_the_values_that_the_compare_and_swap_tests() -> None:
    """pod-manager writes it only if the job has not changed since the decision."""
    engine = an_engine()
    job = a_job(fence="old", instance_type="gpu-2")
    command = only_admit(engine.on_job(job, START))
    assert (command.fence, command.token, command.revision) == ("old", "session#1", job.revision)
    assert command.resources == {"cpu": 1000, "nvidia.com/gpu": 2}


def test_an_admission_is_charged_at_once_and_only_once() -> None:
    """It is a reservation first, then the job is charged, then its pod."""
    engine = an_engine()
    first, second = a_job("first", instance_type="gpu-4"), a_job("second", instance_type="gpu-1")
    command = only_admit(engine.on_job(first, START))
    assert engine.on_job(second, START) == []
    preparing = admission_of(first, command)
    assert engine.on_job(preparing, START) == []
    pod = a_pod(preparing, limits=command.resources)
    assert engine.on_pod(pod, START) == []
    (queue,) = engine.queues.values()
    assert queue.ledger.group_usage["gpu"] == 4
    ended = pod.model_copy(update={"phase": PodPhase.SUCCEEDED})
    assert names(engine.on_pod(ended, START)) == ["second"]


def test_room_is_free_as_soon_as_the_pod_has_ended_even_if_the_job_is_still_running() -> None:
    """The next job does not wait for the write of the status."""
    job = a_job(phase=Phase.RUNNING, instance_type="gpu-4", resources={"nvidia.com/gpu": 4})
    engine = an_engine(job)
    pod = a_pod(job, limits={"nvidia.com/gpu": 4})
    engine.on_pod(pod, START)
    assert names(engine.on_job(a_job("next"), START)) == []
    assert names(engine.on_pod(pod.model_copy(update={"phase": PodPhase.FAILED}), START)) == ["next"]
    assert engine.on_pod_gone(pod.uid, pod.name, job.uid, START) == []
    assert gpus(engine) == 1


@pytest.mark.parametrize(
    ("end", "has_run"),
    [
        ({"phase": PodPhase.SUCCEEDED}, True),
        ({"phase": PodPhase.FAILED, "start_time": START}, True),
        ({"phase": PodPhase.FAILED, "deleting": True}, False),
        ({"phase": PodPhase.FAILED, "reason": "OutOfcpu"}, False),
        ({"deleting": True}, False),
    ],
)
def test_the_room_of_a_preparing_job_is_free_when_its_pod_has_run(
    end: dict[str, Any], *, has_run: bool
) -> None:
    """A job whose pod never started keeps the room until it is requeued."""
    limits = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.PREPARING, instance_type="gpu-4", resources=limits, fence="f", pod_uid="pod")
    engine = an_engine(job)
    pod = a_pod(job, uid="pod", limits=limits)
    engine.on_pod(pod, START)
    assert names(engine.on_job(a_job("next"), START)) == []
    assert names(engine.on_pod(pod.model_copy(update=end), START)) == (["next"] if has_run else [])
    engine.on_pod_gone("pod", job.name, job.uid, START)
    if not has_run:
        back = later(job, phase=Phase.PENDING, requeued=1, pod_uid="")
        assert names(engine.on_job(back, START)) == ["job-1"]


def test_a_gated_pod_is_not_charged_before_its_job_names_it() -> None:
    """It cannot start. The reservation of the job is charged."""
    engine = an_engine()
    command = only_admit(engine.on_job(a_job(instance_type="gpu-2"), START))
    job = a_job(instance_type="gpu-2")
    engine.on_pod(a_pod(job, fence=command.token, gated=True, limits=command.resources), START)
    assert gpus(engine) == 2
    assert names(engine.on_job(a_job("next", instance_type="gpu-2"), START)) == ["next"]


def test_a_pod_that_may_start_is_charged_even_if_its_job_is_gone() -> None:
    """The removal of its gate may be in flight, so it is charged until its end is observed."""
    limits = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.PREPARING, resources=limits, fence="f", pod_uid="pod")
    engine = an_engine(job)
    engine.on_pod(a_pod(job, uid="pod", gated=True, limits=limits), START)
    engine.on_job_gone(job.uid, START)
    assert engine.on_job(a_job("next"), START) == []
    assert names(engine.on_pod_gone("pod", job.name, job.uid, START)) == ["next"]


def test_the_pod_of_a_job_that_is_gone_is_charged_before_it_is_observed() -> None:
    """Pods have a watch of their own. A pod that is not known by then is gone."""
    limits = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.PREPARING, resources=limits, fence="f", pod_uid="pod")
    engine = an_engine(job)
    engine.on_job_gone(job.uid, START)
    assert engine.on_job(a_job("next"), START) == []
    assert engine.on_pods_synced(job.resource_version - 1, START) == []
    assert names(engine.on_pods_synced(job.resource_version, START)) == ["next"]


def test_the_end_of_an_older_pod_does_not_release_the_named_one() -> None:
    """The deletion of the older one may be observed after the end of the job."""
    limits = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.PREPARING, resources=limits, fence="f", pod_uid="pod")
    engine = an_engine(job)
    engine.on_pod(a_pod(job, uid="older", fence="e", gated=True, limits=limits), START)
    engine.on_job_gone(job.uid, START)
    engine.on_pod_gone("older", job.name, job.uid, START)
    assert engine.on_job(a_job("next"), START) == []
    assert names(engine.on_pods_synced(job.resource_version, START)) == ["next"]


def test_a_pod_of_an_earlier_admission_is_charged_beside_the_later_one() -> None:
    """Each is charged its own limits, because the instance type may have changed in between."""
    engine = an_engine(group=a_group(group_quota={"gpu": 8}))
    job = a_job(instance_type="gpu-4")
    command = only_admit(engine.on_job(job, START))
    old = a_pod(job, uid="old", fence="earlier", limits={"nvidia.com/gpu": 1})
    engine.on_pod(old, START)
    engine.on_job(later(admission_of(job, command), pod_uid="new"), START)
    assert gpus(engine) == 5


def test_a_pod_whose_label_a_user_changes_is_charged_to_its_jobs_group() -> None:
    """A user must not be able to move the charge of a job to another group (spec.md, Q3)."""
    limits = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.RUNNING, resources=limits, fence="f", pod_uid="pod")
    engine = an_engine(job)
    pod = a_pod(job, uid="pod", limits=limits)
    engine.on_pod(pod, START)
    engine.on_pod(pod.model_copy(update={"group": "another", "user": ""}), START)
    assert gpus(engine) == 4
    assert names(engine.on_job(a_job("next"), START)) == []


def test_a_finished_jobs_pod_is_charged_until_it_is_gone() -> None:
    """A cancelled job's pod may still run for its grace period."""
    job = a_job(phase=Phase.RUNNING, instance_type="gpu-4", resources={"nvidia.com/gpu": 4})
    engine = an_engine(job)
    pod = a_pod(job, limits={"nvidia.com/gpu": 4})
    engine.on_pod(pod, START)
    engine.on_job(later(job, phase=Phase.CANCELLED), START)
    assert engine.on_job(a_job("next"), START) == []
    assert names(engine.on_pod_gone(pod.uid, pod.name, job.uid, START)) == ["next"]


def test_a_notebook_is_charged_to_the_same_pool() -> None:
    """Jobs and notebooks share the quotas of a group (spec.md, Q3)."""
    engine = an_engine()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 3})
    engine.on_pod(notebook, START)
    assert engine.on_job(a_job(instance_type="gpu-2"), START) == []
    assert names(engine.on_pod_gone("notebook", notebook.name, "", START)) == ["job-1"]


def test_a_settled_admission_is_decided_again() -> None:
    """Another pod-manager wrote a new fence, so the first command can no longer be executed."""
    engine = an_engine()
    job = a_job()
    only_admit(engine.on_job(job, START))
    again = only_admit(engine.on_job(later(job, fence="settled"), START))
    assert (again.fence, again.token) == ("settled", "session#2")


def test_a_write_that_keeps_the_fence_does_not_admit_the_job_again() -> None:
    """A pending reason may be written after the decision to admit."""
    engine = an_engine()
    job = a_job()
    only_admit(engine.on_job(job, START))
    assert engine.on_job(later(job, reason="GroupQuota"), START) == []


def test_a_pending_job_that_is_cancelled_is_not_admitted() -> None:
    """It no longer blocks its group, and pod-manager ends it."""
    engine = an_engine()
    blocked = a_job("blocked", user="pan", instance_type="gpu-4")
    engine.on_pod(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2}), START)
    assert engine.on_job(blocked, START) == []
    assert engine.on_job(a_job("next", user="lin"), START) == []
    assert names(engine.on_job(later(blocked, cancel=True), START)) == ["next"]


def test_a_job_in_backoff_is_skipped_and_blocks_nobody() -> None:
    """It is charged nothing either (spec.md, Q5)."""
    requeued = a_job("requeued", instance_type="gpu-4", requeued=2, requeue_after=at(30))
    engine = an_engine(requeued)
    assert names(engine.on_job(a_job("next", instance_type="gpu-1"), START)) == ["next"]
    assert engine.next_wakeup() == at(30)
    engine.on_job_gone("uid-next", at(1))
    assert names(engine.on_wakeup(at(29))) == []
    assert names(engine.on_wakeup(at(30))) == ["requeued"]


def test_a_backoff_does_not_last_longer_because_the_time_of_day_is_set_back() -> None:
    """Its end is known from its first observation on (spec.md, L15)."""
    engine = an_engine(a_job(requeued=2, requeue_after=at(30)))
    engine.wall_clock_offset = -timedelta(hours=1)
    assert engine.next_wakeup() == at(30)
    assert names(engine.on_wakeup(at(30))) == ["job-1"]


def test_the_end_of_the_backoff_of_a_job_that_is_gone_changes_nothing() -> None:
    """A user may delete a job during its backoff."""
    engine = an_engine(a_job(requeued=1, requeue_after=at(30)))
    engine.on_job_gone("uid-job-1", at(1))
    assert engine.on_wakeup(at(30)) == []
    assert engine.next_wakeup() is None


def test_a_requeued_job_keeps_its_position() -> None:
    """The position depends on its creation alone (spec.md, Q5, Q1)."""
    older = a_job("older", instance_type="gpu-4", created=START, revision=1, requeued=1, user="pan")
    engine = an_engine()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4})
    engine.on_pod(notebook, START)
    engine.on_job(a_job("newer", instance_type="gpu-1", created=START, revision=2, user="lin"), START)
    engine.on_job(older, START)
    assert names(engine.on_pod_gone("notebook", notebook.name, "", START)) == ["older"]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (lambda: a_job(group="nobody"), "group 'nobody' does not exist"),
        (lambda: a_job(user="eve"), "user 'eve' is not a member of group 'phusers'"),
        (lambda: a_job(image="none"), "image 'none' does not exist"),
        (lambda: a_job(image="secret"), "image 'secret' is not granted to group 'phusers'"),
        (lambda: a_job(instance_type="none"), "instance type 'none' does not exist"),
        (lambda: a_job(instance_type="gpu-4"), "instance type 'gpu-4' is not granted to group 'phusers'"),
        (
            lambda: a_job(instance_type="odd"),
            "instance type 'odd' is unusable: limits.cpu: 'lots' is not a quantity",
        ),
        (
            lambda: a_job(group_id="other"),
            "groupId 'other' is not the id of group 'phusers', which is 'mine'",
        ),
    ],
)
def test_a_job_that_the_catalog_does_not_allow_is_rejected_with_the_name_of_the_problem(
    job: Callable[[], JobSeen], message: str
) -> None:
    """The reason is InvalidSpec, and other jobs are not affected (spec.md, Q4)."""
    group = a_group(users=("bob",), instance_types=("gpu-1", "odd"), group_id="mine")
    engine = an_engine(group=group)
    engine.catalog.images["secret"] = an_image("secret")
    engine.catalog.instance_types["odd"] = an_instance_type(
        "odd", invalid="limits.cpu: 'lots' is not a quantity"
    )
    (command,) = engine.on_job(job(), START)
    assert isinstance(command, Reject)
    assert (command.reason, command.message) == (Reason.INVALID_SPEC, message)
    assert names(engine.on_job(a_job("good"), START)) == ["good"]


def test_every_group_has_the_grants_of_everyone() -> None:
    """They apply to the jobs of all groups at once (spec.md, A7)."""
    engine = an_engine(group=a_group(images=(), instance_types=()))
    everyone = a_group("everyone", images=("base-notebook",), instance_types=("gpu-1",))
    engine.on_group(everyone, START)
    assert names(engine.on_job(a_job(), START)) == ["job-1"]


def test_a_job_larger_than_its_quota_fails_at_once_with_the_numbers() -> None:
    """The reason is OverQuota, and the message has resource, request and quota (spec.md, Q4)."""
    engine = an_engine(group=a_group(group_quota={"gpu": 2}))
    (command,) = engine.on_job(a_job(instance_type="gpu-4"), START)
    assert isinstance(command, Reject)
    assert command.reason == Reason.OVER_QUOTA
    assert command.message == "instance type 'gpu-4' needs gpu 4, but the group quota is 2"


def test_a_job_that_was_feasible_waits_until_it_is_feasible_again() -> None:
    """A quota that is lowered fails no job. The job shows why it waits, and blocks no other (spec.md, Q4)."""
    engine = an_engine()
    engine.on_pod(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2}), START)
    job = a_job(instance_type="gpu-4")
    assert engine.on_job(job, START) == []
    assert engine.on_group(a_group(group_quota={"gpu": 3}), at(1)) == []
    (command,) = engine.on_wakeup(at(2))
    assert isinstance(command, SetPendingReason)
    assert command.reason == Reason.OVER_QUOTA
    assert command.message == "instance type 'gpu-4' needs gpu 4, but the group quota is 3"
    assert names(engine.on_job(a_job("small"), at(3))) == ["small"]
    engine.on_pod_gone("notebook", "job-1", "", at(4))
    assert names(engine.on_group(a_group(group_quota={"gpu": 5}), at(5))) == ["job-1"]


@pytest.mark.parametrize(
    "known",
    [
        {"created": at(-61)},
        {"fence": "session#1"},
        {"reason": "OverQuota", "message": "Insufficient group quota"},  # PrimeHub has written it
    ],
)
def test_a_job_that_has_waited_or_was_admitted_before_is_not_rejected_by_a_new_session(
    known: dict[str, Any],
) -> None:
    """It was feasible once; for example, its group is being created again (spec.md, Q4)."""
    engine = an_engine()
    assert engine.on_job(a_job(group="gone", **known), START) == []
    (command,) = engine.on_wakeup(at(1))
    assert isinstance(command, SetPendingReason)
    assert (command.reason, command.message) == (Reason.INVALID_SPEC, "group 'gone' does not exist")
    assert names(engine.on_group(a_group("gone"), at(2))) == ["job-1"]


def test_a_job_of_a_deleted_group_waits_with_that_reason() -> None:
    """It was feasible, so it is not rejected. The group may be created again (spec.md, Q4)."""
    engine = an_engine()
    engine.on_pod(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4}), START)
    engine.on_job(a_job(), START)
    assert engine.on_group_gone("phusers", at(1)) == []
    (command,) = engine.on_wakeup(at(2))
    assert isinstance(command, SetPendingReason)
    assert command.message == "group 'phusers' does not exist"
    assert names(engine.on_group(a_group(), at(3))) == ["job-1"]


def test_a_renamed_group_has_only_its_new_name() -> None:
    """Otherwise its quota would count twice (spec.md, A6)."""
    engine = an_engine()
    engine.on_group(a_group("phusers", group="renamed", group_quota={"gpu": 4}), START)
    (command,) = engine.on_job(a_job(), START)
    assert isinstance(command, Reject)
    assert names(engine.on_job(a_job("new", group="renamed"), START)) == ["new"]


def test_a_job_that_is_being_deleted_is_not_admitted() -> None:
    """A finalizer may keep its record for a while (spec.md, Q7)."""
    engine = an_engine()
    assert engine.on_job(a_job(deleting=True), START) == []
    assert names(engine.on_job(a_job("next"), START)) == ["next"]


def test_the_revision_at_creation_of_an_edited_job_is_recorded_at_once() -> None:
    """Every write changes the resourceVersion, and only the watcher's current session knows the first."""
    engine = an_engine()
    engine.on_pod(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4}), START)
    job = a_job()
    assert engine.on_job(job, START) == []
    (command,) = engine.on_job(later(job, revision_recorded=False), START)
    assert isinstance(command, SetPendingReason)
    assert command.revision == job.revision
    assert engine.on_job(later(job), START) == []


def test_a_job_newer_than_the_catalog_is_not_rejected_before_the_catalog_is_listed_again() -> None:
    """Its group may have been created a moment before it, and be observed later (spec.md, Q8)."""
    engine = an_engine()
    job = a_job(group="new-group", revision=NEWER_THAN_ALL + 10)
    assert engine.on_job(job, START) == []
    assert [*engine.pending_catalog_check] == [job.uid]
    engine.on_group(a_group("new-group"), START)
    assert not engine.pending_catalog_check
    unknown = a_job("other", group="no-group", revision=NEWER_THAN_ALL + 11)
    assert engine.on_job(unknown, START) == []
    (command,) = engine.on_catalog_synced(NEWER_THAN_ALL + 11, START)
    assert isinstance(command, Reject)


def test_no_job_overtakes_one_whose_catalog_check_is_pending() -> None:
    """Its new image may be about to be observed (spec.md, Q8)."""
    engine = an_engine(group=a_group(images=("base-notebook", "new"), group_quota={"gpu": 1}))
    first = a_job("first", image="new", revision=NEWER_THAN_ALL + 10)
    assert engine.on_job(first, START) == []
    assert engine.on_job(a_job("second", user="lin", created=at(1)), at(1)) == []
    engine.catalog.images["new"] = an_image("new")
    assert names(engine.on_catalog_changed(at(2))) == ["first"]


def test_no_pending_reason_is_written_for_a_job_that_is_gone() -> None:
    """A user may delete it in the second before the write."""
    engine = an_engine()
    engine.on_pod(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4}), START)
    engine.on_job(a_job("head"), START)
    engine.on_job_gone("uid-head", at(0.5))
    assert engine.on_wakeup(at(1)) == []


def test_the_pending_reason_of_a_head_is_written_after_a_second_and_at_most_every_ten() -> None:
    """The numbers are those of the time of the write (spec.md, Q6)."""
    engine = an_engine()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2})
    engine.on_pod(notebook, START)
    head = a_job("head", instance_type="gpu-4")
    engine.on_job(head, START)
    engine.on_job(a_job("behind", user="lin"), START)
    assert engine.on_wakeup(at(0.9)) == []
    (command,) = engine.on_wakeup(at(1))
    assert isinstance(command, SetPendingReason)
    assert command.name == "head"
    assert command.message == "user quota: gpu 2 of 4 used, needs 4"
    engine.on_job(later(head, reason=command.reason, message=command.message), at(1.1))
    smaller = notebook.model_copy(update={"limits": {"nvidia.com/gpu": 1}})
    engine.on_pod(smaller, at(2))
    assert engine.on_wakeup(at(10.9)) == []
    (again,) = engine.on_wakeup(at(11))
    assert isinstance(again, SetPendingReason)
    assert again.message == "user quota: gpu 1 of 4 used, needs 4"


def test_a_head_that_is_admitted_at_once_gets_no_pending_reason() -> None:
    """The reason would be outdated before a user could read it."""
    engine = an_engine()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4})
    engine.on_pod(notebook, START)
    engine.on_job(a_job(), START)
    engine.on_pod_gone("notebook", notebook.name, "", START)
    assert engine.on_wakeup(at(100)) == []


def test_an_admission_that_is_not_observed_is_overdue_after_a_minute() -> None:
    """A command or a fact may be lost, so the scheduler starts a new session."""
    engine = an_engine()
    job = a_job()
    engine.on_job(job, START)
    assert engine.next_wakeup() == START + RESERVATION_TIMEOUT
    assert engine.outstanding.take_overdue(START + RESERVATION_TIMEOUT) == [job.uid]


def test_an_admission_that_was_observed_is_never_overdue() -> None:
    """The session goes on."""
    engine = an_engine()
    job = a_job()
    engine.on_job(admission_of(job, only_admit(engine.on_job(job, START))), START)
    assert engine.outstanding.take_overdue(START + RESERVATION_TIMEOUT) == []


def test_an_admission_by_another_program_is_charged_and_counted() -> None:
    """Its pod may run, so its resources count all the same."""
    engine = an_engine()
    engine.on_job(a_job(phase=Phase.PREPARING, fence="who", resources={"nvidia.com/gpu": 4}), START)
    assert engine.foreign_admissions == 1
    assert engine.on_job(a_job("next"), START) == []


def test_a_group_without_jobs_charges_and_quotas_takes_no_memory() -> None:
    """Groups come and go for years."""
    engine = an_engine(group=a_group("unlimited"))
    job = a_job(group="unlimited")
    preparing = admission_of(job, only_admit(engine.on_job(job, START)))
    engine.on_job(preparing, START)
    engine.on_job(later(preparing, phase=Phase.SUCCEEDED), START)
    assert engine.queues == {}
    assert engine.jobs == {}


def test_nothing_remains_of_invented_groups() -> None:
    """Every user can submit a job to any name. A leak of one counter for each would end in no memory."""
    engine = an_engine()
    engine.dirty_groups.clear()
    before = collections(engine)
    for number in range(10_000):
        job = a_job(f"job-{number}", group=f"invented-{number}", created=at(number))
        if number % 3 == 0:  # It waits, and its owner deletes it.
            engine.on_job(later(job, created=at(-3600)), at(number))
        elif number % 3 == 1:  # It is rejected.
            (command,) = engine.on_job(job, at(number))
            assert isinstance(command, Reject)
            engine.on_job(later(job, phase=Phase.FAILED), at(number))
        else:  # It runs, because its group is gone since.
            running = later(job, phase=Phase.RUNNING, fence="f", pod_uid=f"pod-of-uid-job-{number}")
            engine.on_job(running, at(number))
            engine.on_pod(a_pod(running), at(number))
            engine.on_pod_gone(running.pod_uid, running.name, running.uid, at(number))
        assert engine.phases.keys() <= {label_value(job.group)}
        engine.on_job_gone(job.uid, at(number))
    engine.on_wakeup(at(20_000))
    engine.dirty_groups.clear()
    assert collections(engine) == before


def test_nothing_remains_of_a_deleted_group() -> None:
    """Administrators may create and delete groups for years."""
    engine = an_engine()
    engine.dirty_groups.clear()
    before = collections(engine)
    engine.on_group(a_group("vision", group_quota={"gpu": 4}), START)
    engine.on_group_gone("vision", START)
    engine.dirty_groups.clear()
    assert collections(engine) == before


def test_a_second_group_of_the_same_name_changes_no_quota() -> None:
    """Otherwise, whoever may create a PhGroup could lift the quota of another (spec.md, A13)."""
    engine = an_engine(group=a_group(group_quota={"gpu": 4}, created=at(0)))
    engine.on_group(a_group("a-second", group="phusers", group_quota={"gpu": 100}, created=at(1)), START)
    assert names(engine.on_job(a_job(instance_type="gpu-4"), START)) == ["job-1"]
    assert engine.on_job(a_job("next"), START) == []
    engine.on_group_gone("a-second", START)
    assert engine.queues[label_value("phusers")].group_quota == {"gpu": 4}
    engine.on_group(a_group("a-second", group="phusers", group_quota={"gpu": 100}, created=at(1)), START)
    assert names(engine.on_group_gone("phusers", START)) == ["next"]


def rejected(engine: SchedulingEngine) -> list[str]:
    """The names of the jobs that the engine rejects, in the order of the decisions."""
    return [command.name for command in engine.acceptance.rejections]


def a_full_engine(*jobs: JobSeen, limits: PendingLimits, started: bool = True) -> SchedulingEngine:
    """An engine whose group has no room, because a notebook uses all of it."""
    engine = an_engine(*jobs, limits=limits, started=False)
    notebook = a_pod(a_job("notebook"), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4})
    engine.on_pod(notebook, START)
    if started:
        engine.start(START)
    return engine


def test_a_job_over_the_limit_of_pending_jobs_fails_at_once_and_a_requeued_one_never() -> None:
    """The newest is over the limit, not the one that returns to its place (spec.md, Q11)."""
    engine = a_full_engine(limits=PendingLimits(per_user=2))
    requeued = a_job("requeued", fence="s#1", requeued=1, created=at(-300))
    jobs = [a_job("first"), a_job("second", created=at(1))]
    for job in (*jobs, requeued):
        assert engine.on_job(job, at(1)) == []
    (command,) = engine.on_job(a_job("third", created=at(2)), at(2))
    assert isinstance(command, Reject)
    assert (command.name, command.reason) == ("third", Reason.TOO_MANY_PENDING)
    assert "user 'bob' has 3 pending jobs" in command.message


def test_an_admission_and_a_cancel_leave_room_for_the_next_job() -> None:
    """Also before they are observed: an admission that was decided, a cancel that is not written."""
    engine = an_engine(limits=PendingLimits(per_user=1))
    assert names(engine.on_job(a_job("runs", instance_type="gpu-4"), START)) == ["runs"]
    waiting = a_job("waits", created=at(1))
    assert engine.on_job(waiting, at(1)) == []
    engine.on_job(later(waiting, cancel=True), at(2))
    assert engine.on_job(a_job("next", created=at(3)), at(3)) == []
    assert rejected(engine) == []


def test_a_new_session_rejects_the_newest_jobs_that_were_over_the_limit_before() -> None:
    """By the order of the queue, in whatever order the snapshot lists them (spec.md, Q11)."""
    jobs = [a_job(f"job-{n}", created=at(n)) for n in range(5)]
    for order in (jobs, jobs[::-1]):
        engine = a_full_engine(*order, limits=PendingLimits(per_user=3))
        assert rejected(engine) == ["job-3", "job-4"]


def test_a_new_session_fails_no_job_that_was_within_the_limit_before() -> None:
    """Jobs that returned to the queue since do not push it over the limit (spec.md, Q11)."""
    requeued = [a_job(f"requeued-{n}", fence="s#1", created=at(-9)) for n in range(3)]
    waiting = [a_job(f"waits-{n}", created=at(n)) for n in range(2)]
    engine = a_full_engine(*requeued, *waiting, limits=PendingLimits(per_user=2))
    assert rejected(engine) == []
    engine.on_job(a_job("new", created=at(3)), at(3))
    assert rejected(engine) == ["new"]


def test_a_job_without_a_user_fails_however_long_it_has_waited() -> None:
    """A user cannot be added, and nobody's quota would count it (spec.md, E9)."""
    engine = an_engine()
    engine.on_job(a_job("nobody", user="", created=at(-3600), reason="OverQuota", fence="s#1"), START)
    assert rejected(engine) == ["nobody"]


def test_a_job_that_another_controller_has_queued_waits_for_its_group() -> None:
    """PhJob takes over an installation whose PhGroups are not there yet (spec.md, Q4)."""
    waiting = a_job("waits", group="vision", reason="OverQuota", message="Insufficient group quota")
    engine = a_full_engine(waiting, a_job("new", group="vision"), limits=PendingLimits(per_user=1))
    assert rejected(engine) == ["new"]
    (command,) = [one for one in engine.on_wakeup(at(1)) if isinstance(one, SetPendingReason)]
    told = later(waiting, reason=command.reason, message=command.message)
    assert engine.on_job(told, at(2)) == [], "its own reason does not make it a new job again"
    assert names(engine.on_group(a_group("vision"), at(1))) == ["waits"]


def test_a_job_that_has_waited_for_a_minute_is_never_over_the_limit() -> None:
    """A lower limit and a new session fail no job that has waited (spec.md, Q11)."""
    old = [a_job(f"old-{n}", created=at(-61 + n / 10)) for n in range(5)]
    engine = a_full_engine(*old, limits=PendingLimits(per_user=1))
    assert rejected(engine) == []
    engine.on_group(a_group(max_pending_per_user=1, group_quota={"gpu": 4}), at(1))
    assert rejected(engine) == []


def test_the_rejections_of_thousands_of_jobs_are_sent_a_few_at_a_time() -> None:
    """The admissions of the group would wait behind them. Each observed end lets the next one follow."""
    engine = a_full_engine(a_job("first"), limits=PendingLimits(per_user=1))
    sent: list[Command] = []
    for number in range(MAX_OUTSTANDING + 2):
        sent += engine.on_job(a_job(f"over-{number}", created=at(1)), at(1))
    assert len(sent) == MAX_OUTSTANDING
    (command,) = engine.on_job_gone("uid-over-0", at(3))
    assert command.name == f"over-{MAX_OUTSTANDING}"
    repeated = [command for command in engine.on_wakeup(at(40)) if isinstance(command, Reject)]
    assert len(repeated) == MAX_OUTSTANDING


def test_a_change_of_the_catalog_sends_no_rejection_again() -> None:
    """It is outstanding. One that is not sent yet, of a job that became feasible, is dropped."""
    engine = an_engine()
    sent = [
        command
        for number in range(MAX_OUTSTANDING + 1)
        for command in engine.on_job(a_job(f"job-{number}", image="new", created=at(number / 10)), at(1))
    ]
    assert len(sent) == MAX_OUTSTANDING
    assert engine.on_catalog_changed(at(2)) == []
    engine.catalog.images["new"] = an_image("new")
    granted = a_group(images=("base-notebook", "new"), group_quota={"gpu": 1})
    assert names(engine.on_group(granted, at(3))) == ["job-0"]
    assert rejected(engine) == []


def test_the_gpus_of_limits_gpu_are_charged_under_every_name_to_the_end() -> None:
    """Without the mark, a group could use any number of another vendor's devices (spec.md, S3)."""
    limits = {"cpu": 1000, "example.com/accelerator": 2}
    engine = an_engine()
    engine.catalog.instance_types["gpu-2"] = an_instance_type(
        "gpu-2", limits=limits, gpu_resource="example.com/accelerator"
    )
    job = a_job(instance_type="gpu-2")
    command = only_admit(engine.on_job(job, START))
    assert command.gpu_resource == "example.com/accelerator"
    assert gpus(engine) == 2
    preparing = admission_of(job, command).model_copy(update={"gpu_resource": command.gpu_resource})
    del engine.catalog.instance_types["gpu-2"]
    engine.on_job(preparing, START)
    assert gpus(engine) == 2
    engine.on_pod(a_pod(preparing, limits=limits), START)
    assert gpus(engine) == 2
    restarted = an_engine(preparing, started=False)
    assert gpus(restarted) == 2
    restarted.on_job(later(preparing, phase=Phase.CANCELLED, pod_uid="unseen"), START)
    assert gpus(restarted) == 2


def test_a_notebooks_gpus_count_by_the_patterns_of_the_settings() -> None:
    """The settings know the device plugins of the cluster."""
    engine = SchedulingEngine("session", gpus=GpuResources(["example.com/*"]))
    notebook = a_pod(a_job(), job_uid="", limits={"example.com/accelerator": 3, "nvidia.com/gpu.shared": 1})
    engine.on_pod(notebook, START)
    assert gpus(engine) == 4


def refused(job: JobSeen, command: Admit, overhead: dict[str, int]) -> JobSeen:
    """The job after pod-manager found that the cluster adds something to its pod."""
    return later(job, fence=command.token, overhead=overhead, requeue_after=at(5))


def test_a_job_is_admitted_again_with_room_for_what_the_cluster_adds_to_its_pod() -> None:
    """The reservation has to hold all that the pod counts from then on (spec.md, Q13)."""
    engine = an_engine(group=a_group(group_quota={"cpu": 2600, "gpu": 4}))
    first, second = a_job("first"), a_job("second")
    command = only_admit(engine.on_job(first, START))
    overhead = {"cpu": 250, "memory": 10}
    engine.on_job(refused(first, command, overhead), START)
    command = only_admit(engine.on_wakeup(at(5)))
    assert (command.resources, command.overhead) == ({"cpu": 1000, "nvidia.com/gpu": 1}, overhead)
    (queue,) = engine.queues.values()
    assert queue.ledger.group_usage == {"cpu": 1250, "memory": 10, "nvidia.com/gpu": 1, "gpu": 1}
    # Other jobs of the instance type need not find it out again.
    assert only_admit(engine.on_job(second, at(6))).overhead == overhead
    assert names(engine.on_job(a_job("third"), at(6))) == []
    preparing = admission_of(first, command).model_copy(update={"overhead": overhead})
    engine.on_job(preparing, at(7))
    assert queue.ledger.group_usage["cpu"] == 2500
    engine.on_pod(a_pod(preparing, limits={"cpu": 1250}), at(7))
    assert queue.ledger.group_usage["cpu"] == 2500


def test_waiting_jobs_are_judged_again_when_the_cluster_adds_something_to_pods() -> None:
    """Without this, each of them would be admitted once in vain."""
    engine = an_engine(group=a_group(group_quota={"cpu": 1000}))
    first, second = a_job("first"), a_job("second", created=at(1))
    command = only_admit(engine.on_job(first, START))
    assert engine.on_job(second, at(1)) == []
    assert engine.on_job(refused(first, command, {"cpu": 250}), at(2)) == []
    assert engine.infeasible["uid-second"].message == (
        "instance type 'gpu-1' needs cpu 1250m, but the group quota is 1; "
        "the cluster adds cpu 250m to the pod (overhead of its RuntimeClass, or an injected container)"
    )
    (rejected,) = (command for command in engine.on_wakeup(at(6)) if isinstance(command, Reject))
    assert (rejected.name, rejected.reason, rejected.fence) == ("first", Reason.OVER_QUOTA, command.token)
    (command_for_third,) = engine.on_job(a_job("third"), at(7))
    assert isinstance(command_for_third, Reject)


def test_a_job_that_was_admitted_with_its_overhead_is_never_rejected() -> None:
    """A quota that is lowered, or an overhead that grows, lets it wait (spec.md, Q4, Q13)."""
    seen = a_job(fence="f", overhead={"cpu": 250}, requeued=1, preparing_time=START)
    engine = an_engine(group=a_group(group_quota={"cpu": 1000}))
    assert engine.on_job(seen, at(1)) == []
    assert engine.infeasible[seen.uid].reason is Reason.OVER_QUOTA
    old = a_job("old", fence="f", overhead={"cpu": 250}, created=at(-61))
    assert engine.on_job(old, at(1)) == []


def test_a_job_of_the_snapshot_reserves_what_its_admission_did() -> None:
    """Its pod may not be observed yet, and a finished job's may never have been."""
    resources = {"cpu": 1000}
    job = a_job(phase=Phase.PREPARING, fence="f", pod_uid="p", resources=resources, overhead={"cpu": 1})
    finished = a_job("2", phase=Phase.FAILED, pod_uid="q", resources=resources, overhead={"cpu": 20})
    engine = an_engine(job, finished, started=False)
    (queue,) = engine.queues.values()
    assert queue.ledger.group_usage["cpu"] == 2021


def a_notebook_with_claims(number: int) -> PodSeen:
    """The fact about a notebook's pod with so many claims of dynamic resource allocation."""
    labels = {"primehub.io/group": label_value("phusers"), "primehub.io/user": label_value("bob")}
    notebook = a_pod_object(name="notebook", uid="notebook", labels=labels)
    notebook["spec"]["resourceClaims"] = [{"name": f"claim-{index}"} for index in range(number)]
    return project_pod(notebook)


def test_the_claims_of_a_notebook_count_for_its_group_and_block_jobs_whose_pods_get_claims() -> None:
    """A job has none of its own, but a webhook may add some to its pod (spec.md, S4, Q13)."""
    quota = {"groupQuota": {RESOURCE_CLAIMS: 2}, "users": ["*"]}
    granted = {"images": ["base-notebook"], "instanceTypes": ["gpu-1"]}
    group = project_group(an_object("phusers", spec={**quota, **granted}))
    assert not group.invalid
    engine = an_engine(group=group)
    notebook = a_notebook_with_claims(2)
    engine.on_pod(notebook, START)
    (queue,) = engine.queues.values()
    assert queue.ledger.group_usage == {RESOURCE_CLAIMS: 2}
    job = a_job()
    command = only_admit(engine.on_job(job, START))
    engine.on_job(refused(job, command, {RESOURCE_CLAIMS: 1}), START)
    assert names(engine.on_wakeup(at(5))) == []
    (reason,) = (command for command in engine.on_wakeup(at(6)) if isinstance(command, SetPendingReason))
    assert reason.message == f"group quota: {RESOURCE_CLAIMS} 2 of 2 used, needs 1"
    assert names(engine.on_pod_gone(notebook.uid, notebook.name, "", at(7))) == ["job-1"]


def test_claims_are_gpus_where_the_settings_say_so() -> None:
    """For clusters in which each claim is one GPU (docs/operate.md, DRA)."""
    engine = an_engine(gpu_resources=GpuResources([RESOURCE_CLAIMS]))
    notebook = a_notebook_with_claims(3)
    engine.on_pod(notebook, START)
    assert gpus(engine) == 3
    assert names(engine.on_job(a_job("large", instance_type="gpu-2"), START)) == []
    assert names(engine.on_pod_gone(notebook.uid, notebook.name, "", START)) == ["large"]


SUSPENDED = "spec.suspend is true: the job keeps its place, and waits until its user sets it to false"


def reasons(commands: list[Command]) -> dict[str, tuple[str, str]]:
    return {c.name: (c.reason, c.message) for c in commands if isinstance(c, SetPendingReason)}


def test_a_suspended_job_is_not_admitted_blocks_nobody_and_keeps_its_place() -> None:
    """spec.md, Q13."""
    first = a_job("first", instance_type="gpu-4", suspend=True)
    second, third = a_job("second", created=at(1)), a_job("third", created=at(2), instance_type="gpu-4")
    engine = an_engine(first, started=False)
    assert engine.start(START) == []
    assert names(engine.on_job(second, START)) == ["second"]
    assert names(engine.on_job(third, START)) == []
    resumed = later(first, suspend=False)
    assert names(engine.on_job(resumed, START)) == []
    assert names(engine.on_job_gone(second.uid, START)) == ["first"]


def test_a_suspended_job_has_a_reason_which_is_written_once_and_goes_with_the_suspension() -> None:
    """Its condition follows from the reason (spec.md, A16)."""
    job = a_job(instance_type="gpu-4", suspend=True, generation=2)
    engine = an_engine(running_job("other"), job)
    (command,) = engine.on_wakeup(at(1))
    assert isinstance(command, SetPendingReason)
    assert (command.reason, command.message) == ("Suspended", SUSPENDED)
    assert (command.created, command.generation) == (job.created, 2)
    written = later(job, reason="Suspended", message=SUSPENDED)
    engine.on_job(written, at(2))
    assert reasons(engine.on_wakeup(at(11))) == {}
    assert engine.next_wakeup() is None
    engine.on_job(later(written, suspend=False), at(20))
    (reason,) = reasons(engine.on_wakeup(at(21))).values()
    assert reason == ("GroupQuota", "group quota: gpu 1 of 4 used, needs 4")


def running_job(name: str) -> JobSeen:
    return a_job(name, phase=Phase.RUNNING, user="lin", resources={"nvidia.com/gpu": 1}, fence="s#1")


def test_a_job_that_is_resumed_in_its_backoff_is_queued_and_waits_for_its_end() -> None:
    """Its status would say until then that it is suspended."""
    requeued = a_job(requeued=2, requeue_after=at(30), fence="s#1")
    job = later(requeued, suspend=True, reason="Suspended", message=SUSPENDED)
    engine = an_engine(job)
    resumed = later(job, suspend=False)
    assert engine.on_job(resumed, at(5)) == []
    assert reasons(engine.on_wakeup(at(6))) == {"job-1": ("Queued", "")}
    assert names(engine.on_wakeup(at(30))) == ["job-1"]


def test_a_suspended_job_fails_for_no_reason_of_the_queue() -> None:
    """Once it is resumed, it is judged as any other job of its age (spec.md, Q4)."""
    job = a_job(instance_type="none", suspend=True)
    engine = an_engine(job)
    assert not any(isinstance(c, Reject) for c in engine.on_wakeup(at(1)))
    resumed = later(job, suspend=False)
    assert any(isinstance(c, Reject) for c in engine.on_job(resumed, at(59)))
    engine = an_engine(job)
    assert not any(isinstance(c, Reject) for c in engine.on_job(resumed, at(61)))
    assert engine.infeasible.keys() == {job.uid}


def test_a_suspended_job_counts_as_a_pending_one() -> None:
    """Otherwise a user could fill every service's memory with suspended jobs (spec.md, Q11)."""
    engine = an_engine(a_job("one", suspend=True), limits=PendingLimits(per_user=1))
    (command,) = engine.on_job(a_job("two", suspend=True), START)
    assert isinstance(command, Reject)
    assert command.reason == Reason.TOO_MANY_PENDING


def test_an_admission_that_was_decided_before_the_suspension_stands() -> None:
    """The job is Preparing then, and a suspension has no effect on it (spec.md, Q12)."""
    engine = an_engine()
    job = a_job(instance_type="gpu-4")
    command = only_admit(engine.on_job(job, START))
    suspended = later(job, suspend=True)
    assert engine.on_job(suspended, START) == []
    assert gpus(engine) == 4
    assert engine.on_job(admission_of(suspended, command), START) == []
    assert gpus(engine) == 4


def test_a_suspended_job_that_is_cancelled_gets_no_more_reasons() -> None:
    """It is about to be Cancelled."""
    job = a_job(suspend=True)
    engine = an_engine(job)
    engine.on_job(later(job, cancel=True), START)
    assert engine.on_wakeup(at(2)) == []


def test_a_retried_job_keeps_its_place_and_waits_for_the_end_of_its_backoff() -> None:
    """Its old pod counts until it has ended, and the new admission has a charge of its own (spec.md, L17)."""
    engine = an_engine()
    job = a_job("first", instance_type="gpu-4")
    command = only_admit(engine.on_job(job, START))
    preparing = later(admission_of(job, command), pod_uid="pod-1")
    engine.on_job(preparing, START)
    pod = a_pod(preparing, uid="pod-1", limits=command.resources, phase=PodPhase.RUNNING)
    engine.on_pod(pod, START)
    engine.on_job(a_job("second", instance_type="gpu-4", created=at(1)), START)
    retried = later(
        preparing, phase=Phase.PENDING, reason="Retried", message="m", retried=1, pod_uid="",
        requeue_after=at(40),
    )  # fmt: skip
    assert engine.on_job(retried, at(10)) == []
    assert gpus(engine) == 4
    ended = pod.model_copy(update={"phase": PodPhase.FAILED, "start_time": at(1), "exit_code": 1})
    assert names(engine.on_pod(ended, at(10))) == ["second"]
    assert names(engine.on_wakeup(at(40))) == []
    assert names(engine.on_job_gone("uid-second", at(50))) == ["first"]
    assert gpus(engine) == 4


def test_the_backoff_of_a_retry_counts_although_the_job_was_never_requeued() -> None:
    """A wrong clock of pod-manager can prolong it by no more than the retries permit."""
    job = a_job(retried=2, fence="s#1", requeue_after=at(3600), reason="Retried")
    engine = an_engine(job)
    assert engine.next_wakeup() == at(60)


def test_the_message_of_a_retry_stays_while_the_job_does_not_block() -> None:
    """It says why the command runs again."""
    engine = an_engine(a_job(retried=1, fence="s#1", requeue_after=at(30), reason="Retried", message="m"))
    assert reasons(engine.on_wakeup(at(20))) == {}
