from collections import Counter

from tests.unit.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from scheduler.admission import Admission
from scheduler.usage import JOB, JUPYTER, RESERVED, Usage, usages
from shared.messages import PodSeen
from shared.phjob import Phase, PodPhase, Reason


def an_admission(gpus: int) -> Admission:
    admission = Admission("s")
    admission.catalog_listed(10**6, START)
    admission.group_seen(a_group("phusers", group_quota={"gpu": gpus}, user_quota={"gpu": 3}), START)
    for count in (1, 2, 4):
        admission.catalog.instance_types[f"gpu-{count}"] = an_instance_type(f"gpu-{count}", count)
    admission.catalog.images["base-notebook"] = an_image()
    admission.start(START)
    return admission


def usage_of(admission: Admission, group: str) -> Usage:
    (usage,) = [usage for usage in usages(admission) if usage.group == group]
    return usage


def a_notebook(gpus: int) -> PodSeen:
    job = a_job("notebook", user="lin")
    return a_pod(job, job_uid="", limits={"nvidia.com/gpu": gpus}, phase=PodPhase.RUNNING)


def test_it_says_who_holds_what_and_why_the_others_wait() -> None:
    """The names are the group's own, the amounts those of the quota rule."""
    admission = an_admission(4)
    admission.pod_seen(a_notebook(1), START)
    running = a_job("running", instance_type="gpu-1")
    (admit,) = admission.job_seen(running, START)
    assert usage_of(admission, "phusers").used.keys() == {JUPYTER, RESERVED}
    fence = getattr(admit, "token", "")
    running = later(running, phase=Phase.RUNNING, fence=fence, resources={"nvidia.com/gpu": 1})
    admission.job_seen(running, at(1))
    admission.pod_seen(a_pod(running), at(1))
    admission.job_seen(a_job("user-short", instance_type="gpu-2", user="lin", created=at(1)), at(1))
    admission.job_seen(a_job("head", instance_type="gpu-2", created=at(2)), at(2))
    admission.job_seen(a_job("too-many", instance_type="gpu-2", created=at(3)), at(3))
    admission.job_seen(a_job("backoff", created=at(4), requeue_after=at(60), requeued=2), at(4))

    usage = usage_of(admission, "phusers")
    assert usage.used[JUPYTER]["gpu"] == 1
    assert usage.used[JOB]["gpu"] == 1
    assert usage.phases == {Phase.PENDING: 4, Phase.RUNNING: 1}
    assert usage.pending[Reason.REQUEUED] == 1
    assert sum(usage.pending.values()) + len(list(admission.unseen())) == 4
    assert (usage.group_quota, usage.user_quota) == ({"gpu": 4}, {"gpu": 3})


def test_a_head_short_of_group_quota_is_told_apart_from_the_jobs_behind_it() -> None:
    """The age of the head is the age of the whole group's standstill."""
    admission = an_admission(2)
    admission.pod_seen(a_notebook(1), START)
    admission.job_seen(a_job("head", instance_type="gpu-2", created=at(1)), at(1))
    admission.job_seen(a_job("behind", instance_type="gpu-1", user="pan", created=at(2)), at(2))
    usage = usage_of(admission, "phusers")
    assert usage.pending == Counter({Reason.GROUP_QUOTA: 1, Reason.QUEUED: 1, Reason.USER_QUOTA: 0})
    assert (usage.oldest, usage.head, usage.admissible_since) == (at(1), at(1), None)


def test_an_admission_that_nobody_carries_out_is_seen_from_when_it_was_ordered() -> None:
    """pod-manager stands still, say."""
    admission = an_admission(4)
    admission.job_seen(a_job(), at(5))
    usage = usage_of(admission, "phusers")
    assert usage.admissible_since == at(5)
    assert usage.oldest is None
