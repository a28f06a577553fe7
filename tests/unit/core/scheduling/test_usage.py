import sys
import threading
from collections import Counter

from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from phjob_core.api import Phase, PodPhase, Reason
from phjob_core.groups import UNKNOWN_GROUP
from phjob_core.messages import PodSeen
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.usage import JOB, JUPYTER, RESERVED, Usage, usages


def an_engine(gpus: int) -> SchedulingEngine:
    engine = SchedulingEngine("s")
    engine.on_catalog_synced(10**6, START)
    engine.on_group(a_group("phusers", group_quota={"gpu": gpus}, user_quota={"gpu": 3}), START)
    for count in (1, 2, 4):
        engine.catalog.instance_types[f"gpu-{count}"] = an_instance_type(f"gpu-{count}", count)
    engine.catalog.images["base-notebook"] = an_image()
    engine.start(START)
    return engine


def usage_of(engine: SchedulingEngine, group: str) -> Usage:
    (usage,) = [usage for usage in usages(engine) if usage.group == group]
    return usage


def a_notebook(gpus: int) -> PodSeen:
    job = a_job("notebook", user="lin")
    return a_pod(job, job_uid="", limits={"nvidia.com/gpu": gpus}, phase=PodPhase.RUNNING)


def test_usage_is_split_by_kind_of_holder_and_waiting_jobs_by_reason() -> None:
    """The amounts are those that the quotas limit."""
    engine = an_engine(4)
    engine.on_pod(a_notebook(1), START)
    running = a_job("running", instance_type="gpu-1")
    (admit,) = engine.on_job(running, START)
    assert usage_of(engine, "phusers").used.keys() == {JUPYTER, RESERVED}
    fence = getattr(admit, "token", "")
    running = later(running, phase=Phase.RUNNING, fence=fence, resources={"nvidia.com/gpu": 1})
    engine.on_job(running, at(1))
    engine.on_pod(a_pod(running), at(1))
    engine.on_job(a_job("user-short", instance_type="gpu-2", user="lin", created=at(1)), at(1))
    engine.on_job(a_job("head", instance_type="gpu-2", created=at(2)), at(2))
    engine.on_job(a_job("too-many", instance_type="gpu-2", created=at(3)), at(3))
    engine.on_job(a_job("backoff", created=at(4), requeue_after=at(60), requeued=2), at(4))

    usage = usage_of(engine, "phusers")
    assert usage.used[JUPYTER]["gpu"] == 1
    assert usage.used[JOB]["gpu"] == 1
    assert usage.phases == {Phase.PENDING: 4, Phase.RUNNING: 1}
    assert usage.pending[Reason.REQUEUED] == 1
    assert sum(usage.pending.values()) + len(list(engine.outstanding)) == 4
    assert (usage.group_quota, usage.user_quota) == ({"gpu": 4}, {"gpu": 3})


def test_only_the_head_counts_as_blocked_by_the_group_quota() -> None:
    """The age of the head is the time for which the whole group has waited."""
    engine = an_engine(2)
    engine.on_pod(a_notebook(1), START)
    engine.on_job(a_job("head", instance_type="gpu-2", created=at(1)), at(1))
    engine.on_job(a_job("behind", instance_type="gpu-1", user="pan", created=at(2)), at(2))
    usage = usage_of(engine, "phusers")
    assert usage.pending == Counter({Reason.GROUP_QUOTA: 1, Reason.QUEUED: 1, Reason.USER_QUOTA: 0})
    assert (usage.oldest, usage.head, usage.admissible_since) == (at(1), at(1), None)


def test_an_admission_that_is_not_observed_counts_from_its_decision() -> None:
    """An alert fires if pod-manager executes no commands."""
    engine = an_engine(4)
    engine.on_job(a_job(), at(5))
    usage = usage_of(engine, "phusers")
    assert usage.admissible_since == at(5)
    assert usage.oldest is None


def test_an_infeasible_job_counts_under_its_reason() -> None:
    """It waits outside the queue, and blocks nobody."""
    engine = an_engine(4)
    engine.on_job(a_job(created=at(-3600), image="none"), START)
    usage = usage_of(engine, "phusers")
    assert +usage.pending == Counter({Reason.INVALID_SPEC: 1})
    assert (usage.oldest, usage.head) == (at(-3600), None)


def test_the_oldest_preparing_job_counts_from_its_admission() -> None:
    """An alert fires if jobs do not start."""
    engine = an_engine(4)
    for number in (2, 1):
        fields = {"preparing_time": at(number), "fence": f"f#{number}", "resources": {"nvidia.com/gpu": 1}}
        engine.on_job(a_job(f"job-{number}", phase=Phase.PREPARING, **fields), at(5))
    assert usage_of(engine, "phusers").preparing_since == at(1)


def test_a_group_without_quotas_and_jobs_uses_nothing() -> None:
    """The engine deletes its queue after its last job. Its metrics still have to become 0."""
    engine = an_engine(4)
    engine.on_group(a_group("idle"), START)
    engine.on_job(a_job(group="idle"), START)
    assert usage_of(engine, "idle").used
    engine.on_job_gone("uid-job-1", at(1))
    assert len(engine.queues) == 1
    usage = usage_of(engine, "idle")
    assert (usage.used, +usage.phases, usage.group_quota) == ({}, Counter(), {})


def test_all_groups_without_an_object_are_one() -> None:
    """Users invent their names, and each would be a series (spec.md, E3)."""
    engine = an_engine(4)
    for number in range(3):
        engine.on_job(a_job(f"job-{number}", group=f"invented-{number}", created=at(number - 3600)), START)
    notebook = a_notebook(1).model_copy(update={"group": "escaped-gone"})
    engine.on_pod(notebook, START)
    assert {usage.group for usage in usages(engine)} == {"phusers", UNKNOWN_GROUP}
    unknown = usage_of(engine, UNKNOWN_GROUP)
    assert unknown.phases == {Phase.PENDING: 3}
    assert unknown.oldest == at(-3600)
    assert unknown.used == {JUPYTER: {"nvidia.com/gpu": 1, "gpu": 1}}


def test_a_group_may_have_the_name_of_the_unknown_ones() -> None:
    """Two series with the same labels would end the scrape."""
    engine = an_engine(4)
    engine.on_group(a_group(UNKNOWN_GROUP, group_quota={"gpu": 9}), START)
    engine.on_job(a_job("invented", group="invented", created=at(-3600)), START)
    engine.on_job(a_job("real", group=UNKNOWN_GROUP), START)
    assert sorted(usage.group for usage in usages(engine)) == ["phusers", UNKNOWN_GROUP]
    unknown = usage_of(engine, UNKNOWN_GROUP)
    assert (unknown.group_quota, unknown.phases) == ({"gpu": 9}, {Phase.PENDING: 2})


def test_the_state_can_be_read_while_the_engine_goes_on() -> None:
    """Metrics are rendered in a thread. A dictionary that changes would break their iteration."""
    engine = an_engine(1000)
    errors: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                usages(engine)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # So that the two threads interrupt each other as often as possible.
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(600):
            name, group = f"job-{number}", f"group-{number % 50}"
            engine.on_group(a_group(group), START)
            engine.on_job(a_job(name, group=group, created=at(-3600)), START)
            engine.on_job(a_job(f"mine-{number}", user=f"user-{number % 50}", instance_type="gpu-1"), START)
            engine.on_pod(a_pod(a_job(name), job_uid=""), START)
            engine.on_job_gone(f"uid-job-{number - 20}", START)
            engine.on_pod_gone(f"pod-of-uid-job-{number - 20}", "", "", START)
            engine.on_group_gone(f"group-{(number + 25) % 50}", START)
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        reader.join()
    assert not errors
