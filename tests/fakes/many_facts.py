"""Facts as a consumer decodes them, with values of their own, for tests of the memory that they take."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from tests.fakes.facts import a_job, a_pod, at

from phjob_core.api import Phase, PodPhase
from phjob_core.messages import Fact, JobSeen, PodSeen, decode, encode

F = TypeVar("F", bound=Fact)

MAX_FINISHED_BYTES = 1536
"""The memory that one finished job with its pod may take in each service."""
LIMITS = {"cpu": 500, "memory": 2**30, "nvidia.com/gpu": 1}


def pending_job(number: int) -> JobSeen:
    """Return a job that waits."""
    fields = {"uid": _uid(number), "created": at(number)}
    revisions = {"resource_version": 10**7 + number, "revision": 10**7 + number}
    return _decoded(a_job(f"train-model-{number}", **fields, **revisions))


def finished_job(number: int, message: str = "exit code 0") -> JobSeen:
    """Return a job that has ended."""
    job = pending_job(number)
    times = {"preparing_time": at(number + 1), "start_time": at(number + 3), "finish_time": at(number + 60)}
    admission = {"fence": f"scheduler@host-1-a1b2c3.1/1#{number}", "resources": LIMITS}
    end = {"phase": Phase.SUCCEEDED, "reason": "Completed", "message": message, "node": "node-1"}
    pod = {"pod": job.name, "pod_uid": _uid(number + 10**9)}
    changed = {**times, **admission, **end, **pod, "resource_version": job.resource_version + 5}
    return _decoded(job.model_copy(update=changed))


def finished_pod(job: JobSeen, message: str = "") -> PodSeen:
    """Return the pod of a job that has ended."""
    end = {"start_time": job.start_time, "finish_time": job.finish_time, "exit_code": 0, "node": job.node}
    state = {"phase": PodPhase.SUCCEEDED, "reason": "Completed", "message": message}
    revision = {"resource_version": job.resource_version - 1}
    return _decoded(a_pod(job, uid=job.pod_uid, limits=LIMITS, **end, **state, **revision))


@contextmanager
def measured_memory() -> Iterator[list[int]]:
    """Measure the memory that is allocated in the context and kept, and its peak, both in bytes.

    They are in the list when the context ends.
    """
    measured: list[int] = []
    tracemalloc.start()
    try:
        yield measured
        measured += tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def _uid(number: int) -> str:
    return str(UUID(int=2**100 + number))


def _decoded(fact: F) -> F:
    decoded = decode(*encode(fact))
    assert type(decoded) is type(fact)
    return decoded
