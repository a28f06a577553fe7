"""Sharing: which values become one object, and how much memory a fact takes then."""

import json
from typing import Any

from tests.fakes.facts import a_job
from tests.fakes.many_facts import finished_job, finished_pod, measured_memory, pending_job

from phjob_core import sharing
from phjob_core.api import Phase
from phjob_core.messages import JobSeen, PodSeen, decode, encode
from phjob_core.object_cache import ObjectCache
from phjob_core.sharing import MAX_COMMON_CHARS, MAX_COMMON_VALUES, share, share_amounts

COUNT = 500
MAX_BYTES = {"pending job": 700, "finished job": 1050, "its pod": 350, "a pod without its job": 850}
"""The bytes that a fact may take, its place in an object cache included."""


def test_a_job_takes_little_memory() -> None:
    """As a pydantic model, it took 2 to 4 KiB."""
    for kind, job in (("pending job", pending_job), ("finished job", finished_job)):
        jobs: ObjectCache[JobSeen] = ObjectCache()
        with measured_memory() as measured:
            for number in range(COUNT):
                jobs.upsert(job(number))
        assert measured[0] < COUNT * MAX_BYTES[kind]


def test_a_pod_takes_little_memory_and_less_beside_its_job() -> None:
    """It repeats the job's uid, name, fence and times."""
    jobs = [finished_job(number) for number in range(COUNT)]
    for kind, with_job in (("its pod", True), ("a pod without its job", False)):
        pods: ObjectCache[PodSeen] = ObjectCache()
        with measured_memory() as measured:
            for job in jobs:
                pods.upsert(finished_pod(job), relative=job if with_job else None)
        assert measured[0] < COUNT * MAX_BYTES[kind]


def test_sharing_changes_no_value() -> None:
    """An enum equals its text, but its text must not replace it, nor the reverse."""
    job = finished_job(1)
    cancelled = job.model_copy(update={"phase": Phase.CANCELLED, "reason": "Cancelled"})
    pod = finished_pod(job)
    for fact, relative in ((cancelled, job), (pod, cancelled), (job, pod)):
        before = encode(fact)
        share(fact, relative, None)
        assert encode(fact) == before
    assert type(cancelled.phase) is Phase
    assert type(cancelled.reason) is str


def test_relatives_share_their_own_values() -> None:
    """A pod has its job's uid, fence and times."""
    job = finished_job(1)
    pod = finished_pod(job)
    share(pod, job)
    assert pod.job_uid is job.uid
    assert pod.fence is job.fence
    assert pod.start_time is job.start_time
    assert pod.uid is job.pod_uid


def test_strangers_share_common_values_only() -> None:
    """The table would otherwise hold every uid."""
    one, other = finished_job(1), finished_job(1)
    share(one)
    share(other)
    assert one.group is other.group
    assert one.resources is other.resources
    assert one.uid is not other.uid
    assert share_amounts({"cpu": 7}) is share_amounts({"cpu": 7})


def test_a_long_text_is_not_common() -> None:
    """The table would take as much memory as its longest texts."""
    message = json.dumps(["x"] * MAX_COMMON_CHARS)
    one, other = (decode(*encode(a_job(message=message))) for _ in range(2))
    assert isinstance(one, JobSeen)
    assert isinstance(other, JobSeen)
    share(one)
    share(other)
    assert one.message is not other.message


def test_the_table_of_common_values_is_bounded() -> None:
    """A user can invent any number of group names."""
    for number in range(MAX_COMMON_VALUES + 10):
        share(a_job(group=f"invented-{number}"))
    table: dict[Any, Any] = vars(sharing)["_common"]
    assert len(table) <= MAX_COMMON_VALUES
