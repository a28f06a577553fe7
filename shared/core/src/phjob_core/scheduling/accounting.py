"""The accounting of quota: what is charged for each job and each pod, each once (spec.md, Q3). Pure.

| Holder | Charged from | Until |
| --- | --- | --- |
| the job | its admission is decided | its pod is charged, or has started and ended |
| its pod | the job names it, or it has lost its gate | it is over |
| the pod that a deleted job names | the job is gone, and the pod was not observed | its state is known |
| a notebook | its admission is decided, or it exists without a gate | it is over |

Jobs and pods come from two watches, so either may be known later than the other. An admission names a pod
that exists already. A pod that is named but not known is therefore about to be observed, or deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from phjob_core.api import Phase, PodPhase
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.scheduling.eligibility import PodResources
from phjob_core.scheduling.queue import GroupQueue


class Reservation(NamedTuple):
    """An admission that was decided, and is not observed yet."""

    token: str
    """The fence that the job gets with it."""
    fence: str
    """The job's fence when it was decided."""


class BackoffEnd(NamedTuple):
    """The end of a job's backoff."""

    written: datetime
    """As pod-manager wrote it, by its own clock."""
    effective: datetime
    """As this scheduler observes it, by its own clock, which never goes backwards."""


@dataclass(slots=True)
class TrackedJob:
    """A job that waits or that is charged, and what is known of its pod."""

    seen: JobSeen
    resources: PodResources = field(default_factory=PodResources)
    """The resources of its latest admission; of a job in its queue, those of the next one."""
    reservation: Reservation | None = None
    was_feasible: bool = False
    """True if this session has found it feasible. It is never rejected then (spec.md, Q4)."""
    was_accepted: bool = False
    """True if this session has found it within the limits of pending jobs. That is final (spec.md, Q11)."""
    is_counted: bool = False
    """True while it counts as a pending job of its user and its group."""
    backoff_end: BackoffEnd | None = None
    pod: PodSeen | None = None
    """Its pod, unless it is over."""
    ended_pod: PodSeen | None = None
    """The last state of its latest pod that is over."""

    @property
    def token(self) -> str:
        """Return the token of its latest admission."""
        return self.reservation.token if self.reservation else self.seen.fence

    @property
    def is_admitted(self) -> bool:
        """Return whether it is admitted, or its admission is decided."""
        return self.reservation is not None or self.seen.phase.admitted

    def is_named_pod(self, pod: PodSeen) -> bool:
        """Return whether its observed admission names the pod."""
        return bool(self.seen.pod_uid) and pod.uid == self.seen.pod_uid

    def is_pod_of_admission(self, pod: PodSeen) -> bool:
        """Return whether the pod belongs to its latest admission.

        Only a named pod loses its gate. A pod without a gate was therefore named by the admission whose token
        it has, even if that is not observed yet. A gated pod may belong to an admission that failed.
        """
        return self.is_named_pod(pod) or (not pod.gated and pod.fence == self.token)

    @property
    def is_charged(self) -> bool:
        """Return whether the job itself is charged: it is admitted, and its pod is neither charged nor over.

        A pod that ended without a start does not release the charge, because its job is requeued, and is the
        next one in its queue. Without this, a later job could take its room.
        """
        if not self.is_admitted:
            return False
        if self.pod and self.is_pod_of_admission(self.pod):
            return False
        ended = self.ended_pod
        if ended is None or not self.is_pod_of_admission(ended):
            return True
        return not (ended.started or PodPhase.SUCCEEDED is ended.phase or self.seen.phase is Phase.RUNNING)


class _UnseenPod(NamedTuple):
    """A pod that a finished or deleted job names, and that was not observed yet."""

    label: str
    """The label value of its group."""
    revision: int
    """The job's resourceVersion when it named the pod. All facts about pods up to it decide."""


class Accounting:
    """The charges of all groups. A pod is charged under its uid, and so is a job."""

    def __init__(self, queue_of: Callable[[str], GroupQueue], gpus: GpuResources) -> None:
        """`queue_of` returns the queue of a group, by the label value of its name."""
        self._queue_of = queue_of
        self._gpus = gpus
        self._pods: dict[str, tuple[str, PodSeen]] = {}
        """By uid, each pod that is not over, with the label value of the group that it is charged to."""
        self._pods_without_job: dict[str, PodSeen] = {}
        """By job uid, the pods of jobs that are not observed yet, or that are gone."""
        self._unseen_pods: dict[str, _UnseenPod] = {}
        self._pods_revision = 0
        """The resourceVersion up to which all facts about pods are known."""

    def charge_of(self, resources: PodResources) -> dict[str, int]:
        """Return what a job with these resources counts (spec.md, S3)."""
        return self._gpus.charge(resources.total, resources.gpu_resource)

    def update_job(self, job: TrackedJob) -> None:
        """Charge the job and its pod according to their current states."""
        uid = job.seen.uid
        known = self._pods_without_job.get(uid)
        if job.pod is None and known and known.name == job.seen.name:
            job.pod = self._pods_without_job.pop(uid)
        queue, user = self._queue_of(label_value(job.seen.group)), label_value(job.seen.user)
        if job.pod:
            if job.pod.gated and not job.is_named_pod(job.pod):
                queue.release(job.pod.uid)
            else:
                queue.charge(job.pod.uid, user, self.charge_of_pod(job.pod, job))
        if job.is_charged:
            queue.remove(uid)
            queue.charge(uid, user, self.charge_of(job.resources))
        else:
            queue.release(uid)

    def remove_job(self, job: TrackedJob) -> None:
        """Charge only the pod of a job that is finished or deleted, until the pod is over.

        All states of a job are observed. A job that was never observed as admitted was therefore never
        admitted, and its reservation is released.
        """
        seen, label = job.seen, label_value(job.seen.group)
        queue, user = self._queue_of(label), label_value(job.seen.user)
        if job.pod:
            self._pods_without_job[seen.uid] = job.pod
            queue.charge(job.pod.uid, user, self.charge_of_pod(job.pod, job))
        if self._may_have_unseen_pod(job):  # Beside an older pod whose end was not observed yet.
            self._unseen_pods[seen.pod_uid] = _UnseenPod(label, seen.resource_version)
            queue.charge(seen.pod_uid, user, self.charge_of(job.resources))
        queue.release(seen.uid)

    def charge_unseen_pod(self, seen: JobSeen) -> None:
        """Charge the pod that a finished job of the snapshot names, until the pod's state is known."""
        if seen.pod_uid and seen.pod_uid not in self._pods:
            label = label_value(seen.group)
            self._unseen_pods[seen.pod_uid] = _UnseenPod(label, seen.resource_version)
            user = label_value(seen.user)
            charge = self.charge_of(PodResources.admitted(seen))
            self._queue_of(label).charge(seen.pod_uid, user, charge)

    def update_pod(self, seen: PodSeen, job: TrackedJob | None) -> set[str]:
        """Charge a pod according to its current state.

        `job` is its job, if that is known. Returns the label values of the groups that may have changed.
        """
        if seen.over:
            return self._end_pod(seen, job)
        unseen = self._unseen_pods.pop(seen.uid, None)
        label = label_value(job.seen.group) if job else unseen.label if unseen else seen.group
        before = self._pods.get(seen.uid)
        changed = {label}
        if before and before[0] != label:
            self._queue_of(before[0]).release(seen.uid)
            changed.add(before[0])
        self._pods[seen.uid] = label, seen
        if job:
            job.pod = seen
            self.update_job(job)
        else:
            if seen.job_uid:
                self._pods_without_job[seen.job_uid] = seen
            self._queue_of(label).charge(seen.uid, seen.user, self.charge_of_pod(seen))
        return changed

    def remove_pod(self, uid: str, job: TrackedJob | None) -> set[str]:
        """Release a pod that was deleted. Returns the label values of the groups that may have changed."""
        known = self._pods.get(uid)
        return self._end_pod(known[1], job) if known else self._release_unseen_pod(uid)

    def on_pods_synced(self, revision: int) -> set[str]:
        """Release every unseen pod that was named before `revision`.

        All facts about pods up to `revision` are known, so a pod that was named before and is not known is
        gone. Returns the label values of the groups that may have changed.
        """
        self._pods_revision = max(self._pods_revision, revision)
        gone = [uid for uid, unseen in self._unseen_pods.items() if unseen.revision <= self._pods_revision]
        return {label for uid in gone for label in self._release_unseen_pod(uid)}

    def get_pod(self, uid: str) -> PodSeen | None:
        """Return a pod that is not over; None if there is none with that uid."""
        known = self._pods.get(uid)
        return known[1] if known else None

    def charge_of_pod(self, pod: PodSeen, job: TrackedJob | None = None) -> dict[str, int]:
        """Return what a pod counts. `job` is its job, if that is known."""
        return self._gpus.charge(pod.limits, pod.gpu_resource or (job.resources.gpu_resource if job else ""))

    def _may_have_unseen_pod(self, job: TrackedJob) -> bool:
        """Return whether the job's admission names a pod that may still appear.

        Without this, a job that is deleted right after its admission would release the room of its pod.
        """
        seen = job.seen
        named = seen.phase.admitted and bool(seen.pod_uid)
        return named and job.is_charged and self._pods_revision < seen.resource_version

    def _end_pod(self, seen: PodSeen, job: TrackedJob | None) -> set[str]:
        """Release a pod that is over. Returns the label values of the groups that may have changed."""
        changed = self._release_unseen_pod(seen.uid)
        known = self._pods.pop(seen.uid, None)
        if known:
            self._queue_of(known[0]).release(seen.uid)
            changed.add(known[0])
        if self._pods_without_job.get(seen.job_uid, seen).uid == seen.uid:
            self._pods_without_job.pop(seen.job_uid, None)
        if job:
            job.ended_pod = seen
            if job.pod and job.pod.uid == seen.uid:
                job.pod = None
            self.update_job(job)
            changed.add(label_value(job.seen.group))
        return changed

    def _release_unseen_pod(self, uid: str) -> set[str]:
        """Release the charge of a pod that was not observed. Returns the label value of its group, if any."""
        unseen = self._unseen_pods.pop(uid, None)
        if unseen is None:
            return set()
        self._queue_of(unseen.label).release(uid)
        return {unseen.label}
