from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from scheduler.admission import RESERVATION_LIMIT, Admission
from shared.messages import Admit, Explain, GroupSeen, JobSeen, Order, Refuse
from shared.phjob import Phase, PodPhase, Reason

NEWER_THAN_ALL = 10**9


def a_mind(*jobs: JobSeen, group: GroupSeen | None = None, started: bool = True) -> Admission:
    """A scheduler that has seen the catalog, complete, and these jobs; what it ordered is dropped."""
    mind = Admission("session")
    mind.catalog_listed(NEWER_THAN_ALL, START)
    for gpus in (1, 2, 4):
        name = f"gpu-{gpus}"
        mind.catalog.instance_types[name] = an_instance_type(name, gpus)
    mind.catalog.images["base-notebook"] = an_image()
    quota = {"gpu": 4}
    mind.group_seen(group or a_group(user_quota=quota, group_quota=quota), START)
    for job in jobs:
        mind.job_seen(job, START)
    if started:
        mind.start(START)
    return mind


def names(orders: list[Order]) -> list[str]:
    return [order.name for order in orders if isinstance(order, Admit)]


def admission_of(job: JobSeen, order: Order) -> JobSeen:
    """The job as it is seen once the order was carried out."""
    assert isinstance(order, Admit)
    return later(
        job, phase=Phase.PREPARING, fence=order.token, preparing_time=START, resources=order.resources
    )


def only_admit(orders: list[Order]) -> Admit:
    (order,) = orders
    assert isinstance(order, Admit)
    return order


def test_nothing_is_ordered_before_the_snapshot_is_complete() -> None:
    """Half a snapshot may hide what is held: acting on it could exceed the quota."""
    mind = a_mind(started=False)
    assert mind.job_seen(a_job(), START) == []
    assert names(mind.start(START)) == ["job-1"]


def test_an_admission_carries_what_the_compare_and_swap_tests() -> None:
    """The fence that was seen, a new token, the limits of the instance type, the revision."""
    mind = a_mind()
    job = a_job(fence="old", instance_type="gpu-2")
    order = only_admit(mind.job_seen(job, START))
    assert (order.fence, order.token, order.revision) == ("old", "session#1", job.revision)
    assert order.resources == {"cpu": 1000, "nvidia.com/gpu": 2}


def test_an_admission_is_counted_at_once_and_only_once() -> None:
    """Reserved when ordered, held by the job when seen Preparing, then by its pod."""
    mind = a_mind()
    first, second = a_job("first", instance_type="gpu-4"), a_job("second", instance_type="gpu-1")
    order = only_admit(mind.job_seen(first, START))
    assert mind.job_seen(second, START) == []
    preparing = admission_of(first, order)
    assert mind.job_seen(preparing, START) == []
    pod = a_pod(preparing, limits=order.resources)
    assert mind.pod_seen(pod, START) == []
    (queue,) = mind.groups.values()
    assert queue.ledger.group["gpu"] == 4
    ended = pod.model_copy(update={"phase": PodPhase.SUCCEEDED})
    assert names(mind.pod_seen(ended, START)) == ["second"]


def test_room_is_free_as_soon_as_the_pod_has_ended_though_the_job_still_reads_running() -> None:
    """The next job need not wait for a status write of the last one."""
    job = a_job(phase=Phase.RUNNING, instance_type="gpu-4", resources={"nvidia.com/gpu": 4})
    mind = a_mind(job)
    pod = a_pod(job, limits={"nvidia.com/gpu": 4})
    mind.pod_seen(pod, START)
    assert names(mind.job_seen(a_job("next"), START)) == []
    assert names(mind.pod_seen(pod.model_copy(update={"phase": PodPhase.FAILED}), START)) == ["next"]
    assert mind.pod_gone(pod.uid, pod.group, START) == []
    (queue,) = mind.groups.values()
    assert queue.ledger.group["gpu"] == 1


@pytest.mark.parametrize(
    ("said", "admits_at_its_end", "admits_when_its_job_waits"),
    [
        ({"deleting": True}, [], ["next"]),
        ({"deleting": True, "start_time": START}, [], ["next"]),
        ({"reason": "OutOfcpu"}, [], ["next"]),
        ({"start_time": START}, ["next"], []),
    ],
)
def test_a_pod_that_could_be_made_again_leaves_its_job_the_room(
    said: dict[str, Any], admits_at_its_end: list[str], admits_when_its_job_waits: list[str]
) -> None:
    """Until its job reads that it is requeued, whoever takes over finds it Preparing without a pod."""
    held = {"nvidia.com/gpu": 4}
    job = a_job(phase=Phase.PREPARING, instance_type="gpu-4", resources=held, fence="f")
    mind = a_mind(job)
    pod = a_pod(job, limits={"nvidia.com/gpu": 4})
    mind.pod_seen(pod, START)
    assert names(mind.job_seen(a_job("next"), START)) == []
    ended = mind.pod_seen(pod.model_copy(update={"phase": PodPhase.FAILED, **said}), START)
    gone = mind.pod_gone(pod.uid, pod.group, START)
    assert names([*ended, *gone]) == admits_at_its_end
    waits = later(job, phase=Phase.PENDING, requeue_after=START + timedelta(seconds=30))
    assert names(mind.job_seen(waits, START)) == admits_when_its_job_waits


def test_a_final_jobs_pod_counts_until_it_is_gone() -> None:
    """A cancelled job's pod may still run for its grace period."""
    job = a_job(phase=Phase.RUNNING, instance_type="gpu-4", resources={"nvidia.com/gpu": 4})
    mind = a_mind(job)
    pod = a_pod(job, limits={"nvidia.com/gpu": 4})
    mind.pod_seen(pod, START)
    mind.job_seen(later(job, phase=Phase.CANCELLED), START)
    assert mind.job_seen(a_job("next"), START) == []
    assert names(mind.pod_gone(pod.uid, pod.group, START)) == ["next"]


def test_a_jupyter_pod_counts_in_the_same_pool() -> None:
    """Queueing 3."""
    mind = a_mind()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 3})
    mind.pod_seen(notebook, START)
    assert mind.job_seen(a_job(instance_type="gpu-2"), START) == []
    assert names(mind.pod_gone("notebook", notebook.group, START)) == ["job-1"]


def test_a_settled_order_is_decided_again() -> None:
    """Another pod-manager wrote a new fence: the old order can't be carried out any more."""
    mind = a_mind()
    job = a_job()
    only_admit(mind.job_seen(job, START))
    again = only_admit(mind.job_seen(later(job, fence="settled"), START))
    assert (again.fence, again.token) == ("settled", "session#2")


def test_a_write_that_changes_nothing_for_the_order_leaves_it_alone() -> None:
    """An explanation that arrives late must not admit twice."""
    mind = a_mind()
    job = a_job()
    only_admit(mind.job_seen(job, START))
    assert mind.job_seen(later(job, reason="GroupQuota"), START) == []


def test_a_cancelled_job_that_waits_is_not_admitted() -> None:
    """pod-manager cancels it; the next one goes."""
    mind = a_mind()
    blocked = a_job("blocked", user="pan", instance_type="gpu-4")
    mind.pod_seen(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2}), START)
    assert mind.job_seen(blocked, START) == []
    assert mind.job_seen(a_job("next", user="lin"), START) == []
    assert names(mind.job_seen(later(blocked, cancel=True), START)) == ["next"]


def test_a_job_in_backoff_is_skipped_and_blocks_nobody() -> None:
    """Queueing 5."""
    sent_back = a_job("sent-back", instance_type="gpu-4", requeued=2, requeue_after=at(30))
    mind = a_mind(sent_back)
    assert names(mind.job_seen(a_job("next", instance_type="gpu-1"), START)) == ["next"]
    assert mind.due() == at(30)
    mind.job_gone("uid-next", "phusers", at(1), has_pod=False)
    assert names(mind.tick(at(29))) == []
    assert names(mind.tick(at(30))) == ["sent-back"]


def test_a_requeued_job_keeps_its_place() -> None:
    """Queueing 5: by creation time, and the revision that was noted at creation."""
    older = a_job("older", instance_type="gpu-4", created=START, revision=1, requeued=1, user="pan")
    mind = a_mind()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4})
    mind.pod_seen(notebook, START)
    mind.job_seen(a_job("newer", instance_type="gpu-1", created=START, revision=2, user="lin"), START)
    mind.job_seen(older, START)
    assert names(mind.pod_gone("notebook", notebook.group, START)) == ["older"]


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
def test_a_spec_that_names_what_is_not_granted_is_refused_by_name(
    job: Callable[[], JobSeen], message: str
) -> None:
    """Queueing 4: InvalidSpec, naming it; the others go on."""
    group = a_group(users=("bob",), instance_types=("gpu-1", "odd"), group_id="mine")
    mind = a_mind(group=group)
    mind.catalog.images["secret"] = an_image("secret")
    mind.catalog.instance_types["odd"] = an_instance_type(
        "odd", invalid="limits.cpu: 'lots' is not a quantity"
    )
    (order,) = mind.job_seen(job(), START)
    assert isinstance(order, Refuse)
    assert (order.reason, order.message) == (Reason.INVALID_SPEC, message)
    assert names(mind.job_seen(a_job("good"), START)) == ["good"]


def test_what_everyone_is_granted_every_group_may_use() -> None:
    """contract.md, PhGroup."""
    mind = a_mind(group=a_group(images=(), instance_types=()))
    everyone = a_group("everyone", images=("base-notebook",), instance_types=("gpu-1",))
    mind.group_seen(everyone, START)
    assert names(mind.job_seen(a_job(), START)) == ["job-1"]


def test_a_job_larger_than_its_quota_fails_at_once_with_the_numbers() -> None:
    """Queueing 4: OverQuota with resource, request and limit."""
    mind = a_mind(group=a_group(group_quota={"gpu": 2}))
    (order,) = mind.job_seen(a_job(instance_type="gpu-4"), START)
    assert isinstance(order, Refuse)
    assert order.reason == Reason.OVER_QUOTA
    assert order.message == "instance type 'gpu-4' needs gpu 4, but the group quota is 2"


def test_a_waiting_job_fails_when_its_quota_is_cut_below_it() -> None:
    """It can never fit any more."""
    mind = a_mind()
    mind.pod_seen(a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2}), START)
    assert mind.job_seen(a_job(instance_type="gpu-4"), START) == []
    (order,) = mind.group_seen(a_group(group_quota={"gpu": 3}), START)
    assert isinstance(order, Refuse)
    assert order.reason == Reason.OVER_QUOTA


def test_a_job_newer_than_the_catalog_is_not_refused_before_the_catalog_was_asked_for() -> None:
    """Its group may have been created a moment before it, and the watch be late."""
    mind = a_mind()
    job = a_job(group="new-group", revision=NEWER_THAN_ALL + 10)
    assert mind.job_seen(job, START) == []
    assert mind.doubtful == {job.uid}
    mind.group_seen(a_group("new-group"), START)
    assert mind.doubtful == set()
    unknown = a_job("other", group="no-group", revision=NEWER_THAN_ALL + 11)
    assert mind.job_seen(unknown, START) == []
    (order,) = mind.catalog_listed(NEWER_THAN_ALL + 11, START)
    assert isinstance(order, Refuse)


def test_the_head_of_a_blocked_group_is_told_why_after_a_second_and_not_again_for_ten() -> None:
    """Queueing 6."""
    mind = a_mind()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 2})
    mind.pod_seen(notebook, START)
    head = a_job("head", instance_type="gpu-4")
    mind.job_seen(head, START)
    mind.job_seen(a_job("behind", user="lin"), START)
    assert mind.tick(at(0.9)) == []
    (order,) = mind.tick(at(1))
    assert isinstance(order, Explain)
    assert order.name == "head"
    assert order.message == "user quota: gpu 2 of 4 used, needs 4"
    mind.job_seen(later(head, reason=order.reason, message=order.message), at(1.1))
    smaller = notebook.model_copy(update={"limits": {"nvidia.com/gpu": 1}})
    mind.pod_seen(smaller, at(2))
    assert mind.tick(at(10.9)) == []
    (again,) = mind.tick(at(11))
    assert isinstance(again, Explain)
    assert again.message == "user quota: gpu 1 of 4 used, needs 4"


def test_a_head_that_goes_at_once_is_never_told_anything() -> None:
    """No write for a wait that nobody could read about."""
    mind = a_mind()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits={"nvidia.com/gpu": 4})
    mind.pod_seen(notebook, START)
    mind.job_seen(a_job(), START)
    mind.pod_gone("notebook", notebook.group, START)
    assert mind.tick(at(100)) == []


def test_an_admission_that_is_never_seen_is_reported_after_a_minute() -> None:
    """Then the session is doubted."""
    mind = a_mind()
    job = a_job()
    mind.job_seen(job, START)
    assert mind.due() == START + RESERVATION_LIMIT
    assert mind.overdue(START + RESERVATION_LIMIT) == [job.uid]


def test_an_admission_that_was_seen_is_not_reported() -> None:
    """Nothing to doubt."""
    mind = a_mind()
    job = a_job()
    mind.job_seen(admission_of(job, only_admit(mind.job_seen(job, START))), START)
    assert mind.overdue(START + RESERVATION_LIMIT) == []


def test_a_job_that_somebody_else_admitted_is_counted_and_noticed() -> None:
    """It holds its resources all the same."""
    mind = a_mind()
    mind.job_seen(a_job(phase=Phase.PREPARING, fence="who", resources={"nvidia.com/gpu": 4}), START)
    assert mind.unexpected == 1
    assert mind.job_seen(a_job("next"), START) == []


def test_a_group_of_which_nothing_is_left_costs_nothing() -> None:
    """Memory follows what there is."""
    mind = a_mind(group=a_group("unlimited"))
    job = a_job(group="unlimited")
    preparing = admission_of(job, only_admit(mind.job_seen(job, START)))
    mind.job_seen(preparing, START)
    mind.job_seen(later(preparing, phase=Phase.SUCCEEDED), START)
    assert mind.groups == {}
    assert mind.jobs == {}
