"""Builders of the command line's snapshots of the group `phusers`, and of the facts in them."""

from typing import Any

from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at

from phjob_cli.snapshot import Facts, GroupSnapshot
from phjob_core.api import Phase, PodPhase
from phjob_core.messages import GroupSeen, JobSeen, PodSeen

NOW = at(100)


def running(name: str, gpus: int, user: str = "bob", **fields: Any) -> tuple[JobSeen, PodSeen]:
    """Return a job that has run since START, and its pod."""
    limits = {"cpu": 1000, "nvidia.com/gpu": gpus}
    job = a_job(
        name, user=user, phase=Phase.RUNNING, resources=limits, preparing_time=START, start_time=START,
        fence="s#1", node="node-1", **fields,
    )  # fmt: skip
    return job, a_pod(job, limits=limits, phase=PodPhase.RUNNING, start_time=START)


def finished(name: str, seconds: int) -> JobSeen:
    """Return a job that has succeeded after these seconds."""
    return a_job(name, phase=Phase.SUCCEEDED, preparing_time=START, start_time=START, finish_time=at(seconds))


def a_notebook(gpus: int, user: str = "lin") -> PodSeen:
    """Return the pod of a notebook that has run since START."""
    job = a_job("jupyter-lin", user=user)
    limits = {"nvidia.com/gpu": gpus}
    return a_pod(job, job_uid="", limits=limits, phase=PodPhase.RUNNING, start_time=START)


def a_snapshot(*seen: JobSeen | PodSeen, group: GroupSeen | None = None) -> GroupSnapshot:
    """Return a snapshot at NOW; by default with a user quota and a group quota of 4 GPUs."""
    group = group or a_group(group_quota={"gpu": 4}, user_quota={"gpu": 4})
    return GroupSnapshot(
        Facts(
            "phusers",
            group,
            [fact for fact in seen if isinstance(fact, JobSeen)],
            [fact for fact in seen if isinstance(fact, PodSeen)],
            [group],
            [an_instance_type(f"gpu-{gpus}", gpus) for gpus in (1, 2, 4)],
            [an_image()],
        ),
        NOW,
    )
