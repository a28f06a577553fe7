"""Deletions of jobs' pods by third parties, found in the history alone. The functions are pure.

A history does not show who deletes a pod. But PhJob deletes the pod that an admitted job names in
`status.podUID` only to requeue the job. It puts a finalizer of its own on the pod first. Any other
deletion of such a pod is a third party's: a user's kubectl, a drain, or PodGC.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.support.history import WatchEvent
from tests.support.promises import ADMITTED_PHASES, FINISHED_POD_PHASES, controlling_job, has_started

REQUEUE_FINALIZER = "primehub.io/requeue"
"""The finalizer by which PhJob holds a pod that it is about to delete."""
DISRUPTION_REASONS = {
    "DeletionByPodGC",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "PreemptionByScheduler",
}
"""Reasons of the condition DisruptionTarget, by which Kubernetes announces a deletion."""


class Stage(StrEnum):
    """A stage in the life of a pod."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True)
class Deletion:
    """The deletion of an admitted job's pod that may be a third party's."""

    pod: str
    """The pod's uid."""
    name: str
    revision: int
    """The first revision that shows the pod as being deleted, about to be, or gone."""
    stage: Stage
    """The pod's stage before that revision."""
    held: bool
    """True if PhJob held the pod already, so that the deletion may be PhJob's own."""


def by_third_parties(events: Iterable[WatchEvent]) -> list[Deletion]:
    """Return every deletion that may be a third party's, in order."""
    named: dict[str, str] = {}
    """The pod that each admitted job names, by the job's uid."""
    before: dict[str, WatchEvent] = {}
    found: dict[str, Deletion] = {}
    for event in events:
        if event.kind == "PhJob":
            named[event.uid] = _named_pod(event)
        elif job := controlling_job(event):
            last = before.setdefault(event.uid, event)
            before[event.uid] = event
            begins = (event.gone or _is_being_deleted(event)) and not _is_being_deleted(last)
            if event.uid not in found and begins and named.get(job) == event.uid:
                held = _is_held(last) and not _is_disrupted(event)
                found[event.uid] = Deletion(event.uid, event.name, event.revision, stage_of(last), held)
    return list(found.values())


def stage_of(pod: WatchEvent) -> Stage:
    """Return the pod's stage.

    PodGC writes phase Failed also where the container still runs.
    """
    if any("running" in state for state in _states(pod)):
        return Stage.RUNNING
    return Stage.FINISHED if pod.phase in FINISHED_POD_PHASES else Stage.STARTING


def never_started(events: Iterable[WatchEvent]) -> set[str]:
    """Return the uids of the jobs' pods whose containers provably never started."""
    revisions_of: dict[str, list[WatchEvent]] = defaultdict(list)
    for event in events:
        if controlling_job(event):
            revisions_of[event.uid].append(event)
    return {uid for uid, revisions in revisions_of.items() if _never_started(revisions)}


def _never_started(revisions: list[WatchEvent]) -> bool:
    """Return whether the revisions of a pod prove that its container never started.

    They do if the pod never had a node, or if its node reported at last that the container ended without
    a start. A pod that disappeared from its node without such a report may have started.
    """
    if any(has_started(pod) for pod in revisions):
        return False
    if not any(pod.object["spec"].get("nodeName") for pod in revisions):
        return True
    states = _states(revisions[-1])
    return revisions[-1].phase == "Failed" and bool(states) and all("terminated" in state for state in states)


def _named_pod(job: WatchEvent) -> str:
    """Return the uid of the pod that the job names while it is admitted."""
    if job.gone or job.phase not in ADMITTED_PHASES:
        return ""
    return str(job.object["status"].get("podUID", ""))


def _is_being_deleted(pod: WatchEvent) -> bool:
    return "deletionTimestamp" in pod.object["metadata"] or _is_disrupted(pod)


def _is_held(pod: WatchEvent) -> bool:
    return REQUEUE_FINALIZER in pod.object["metadata"].get("finalizers", ())


def _is_disrupted(pod: WatchEvent) -> bool:
    conditions = pod.object.get("status", {}).get("conditions", ())
    return any(c["type"] == "DisruptionTarget" and c.get("reason") in DISRUPTION_REASONS for c in conditions)


def _states(pod: WatchEvent) -> list[dict[str, dict[str, Any]]]:
    """Return the state of each container, as of this revision."""
    statuses = pod.object.get("status", {}).get("containerStatuses", ())
    return [status.get("state", {}) for status in statuses]
