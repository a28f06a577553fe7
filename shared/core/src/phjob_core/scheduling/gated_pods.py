"""The gated pods of the pool: notebooks that start when PhJob removes their gate (spec.md, Q14). Pure.

| State of the pod | In the queue | Charged |
| --- | --- | --- |
| it waits | yes, unless it cannot be admitted for a reason of its own | no |
| its admission is decided | no | yes, under its uid |
| it has lost its gate | no | yes, as any pod of the pool (`accounting`) |

The pods of jobs are gated, too. They are no part of this: the admission of their job decides about them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from phjob_core.api import Reason
from phjob_core.groups import Groups
from phjob_core.messages import AdmitPod, ExplainPod, PodSeen
from phjob_core.scheduling.accounting import Accounting, Reservation
from phjob_core.scheduling.pending_reasons import PendingReason
from phjob_core.scheduling.queue import AHEAD_OF_JOBS, IN_ORDER, GroupQueue, QueuedJob, QueueKey

_UNKNOWN_AGE = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class GatedPod:
    """A gated pod, and what was decided about it."""

    seen: PodSeen
    reservation: Reservation | None = None
    """Its admission, if that is decided and not observed."""
    problem: PendingReason | None = None
    """Why it cannot be admitted for now, whatever the others in its group do."""
    explained: PendingReason = ("", "")
    """The reason that was last sent to be written as an Event."""


def is_gated_pod(seen: PodSeen) -> bool:
    """Return whether the pod is of the pool, is no job's, and waits for the removal of its gate."""
    return seen.gated and not seen.job_uid and bool(seen.group) and not seen.over


class GatedPods:
    """The gated pods of all groups. Those that wait are in the queues of their groups."""

    def __init__(
        self,
        queue_of: Callable[[str], GroupQueue],
        accounting: Accounting,
        groups: Groups,
        *,
        first: bool,
    ) -> None:
        """`queue_of` returns the queue of a group, by the label value of its name.

        With `first`, each gated pod is ahead of all jobs of its group.
        """
        self._queue_of = queue_of
        self._accounting = accounting
        self._groups = groups
        self._rank = AHEAD_OF_JOBS if first else IN_ORDER
        self._pods: dict[str, GatedPod] = {}
        """By uid."""
        self._of_group: dict[str, set[str]] = {}
        """The uids, by the label value of the group."""
        self._started = False

    def start(self) -> None:
        """Put every known pod into its queue."""
        self._started = True
        for pod in self._pods.values():
            self._enqueue(pod)

    def update(self, seen: PodSeen) -> set[str]:
        """Process the new state of a gated pod.

        Returns the label values of the groups that may have changed.
        """
        pod = self._pods.get(seen.uid)
        changed = {seen.group}
        if pod is None:
            pod = self._pods[seen.uid] = GatedPod(seen)
        elif pod.seen.group != seen.group:
            changed.add(pod.seen.group)
            self._leave_group(pod)
        pod.seen = seen
        self._of_group.setdefault(seen.group, set()).add(seen.uid)
        if pod.reservation and pod.reservation.fence != seen.fence:
            pod.reservation = None  # Another pod-manager has settled the admission.
            self._queue_of(seen.group).release(seen.uid)
        if pod.reservation:
            self._queue_of(seen.group).charge(seen.uid, seen.user, self._charge_of(pod))
        else:
            self._enqueue(pod)
        return changed

    def remove(self, uid: str) -> set[str]:
        """Remove a pod that has lost its gate, or that is gone. Its reservation is released.

        Returns the label values of the groups that may have changed.
        """
        pod = self._pods.pop(uid, None)
        if pod is None:
            return set()
        self._leave_group(pod)
        return {pod.seen.group}

    def admit(self, uid: str, token: str) -> AdmitPod:
        """Reserve the admission of a pod that its queue has admitted. Returns the command."""
        pod = self._pods[uid]
        pod.reservation = Reservation(token, pod.seen.fence)
        seen = pod.seen
        # pod-manager executes the commands of a group in sequence, so it has the group's name as for a job.
        group = self._groups.counting_with_label(seen.group)
        assert group  # noqa: S101 - without it, the pod would not be in the queue
        return AdmitPod(uid=uid, name=seen.name, group=group.group, fence=seen.fence, token=token)

    def recheck(self, labels: Iterable[str]) -> set[str]:
        """Check the waiting pods of these groups again, because a PhGroup or a quota changed.

        Returns the label values of those groups that have any.
        """
        having_pods = {label for label in labels if label in self._of_group}
        for label in having_pods:
            for uid in self._of_group[label]:
                if not self._pods[uid].reservation:
                    self._enqueue(self._pods[uid])
        return having_pods

    def waiting(self, label: str) -> Iterator[str]:
        """Yield the uids of the pods of a group whose admission is not decided."""
        return (uid for uid in self._of_group.get(label, ()) if not self._pods[uid].reservation)

    def explained_and_current(self, uid: str) -> tuple[PendingReason, PendingReason] | None:
        """Return the last reason that was sent, and the one that a pod has now.

        Returns None if its admission is decided, or is about to be.
        """
        pod = self._pods[uid]
        if pod.reservation:
            return None
        if pod.problem:
            return pod.explained, pod.problem
        queue = self._queue_of(pod.seen.group)
        reason, message = queue.pending_reason(uid)
        if reason is Reason.QUEUED:
            ahead = queue.count_ahead(uid)
            if not ahead:
                return None
            message = f"{ahead} ahead of it in the queue of its group"
        return pod.explained, (reason, message)

    def explain(self, uid: str, reason: PendingReason) -> ExplainPod:
        """Return the command that writes a pod's reason as an Event."""
        pod = self._pods[uid]
        pod.explained = reason
        seen = pod.seen
        return ExplainPod(
            uid=uid, name=seen.name, group=seen.group, fence=seen.fence, reason=reason[0], message=reason[1]
        )

    def count_waiting(self, label: str) -> int:
        """Return how many pods of a group wait."""
        return sum(1 for _ in self.waiting(label))

    def name(self, uid: str) -> str:
        """Return the name of a gated pod."""
        return self._pods[uid].seen.name

    def is_reserved(self, uid: str) -> bool:
        """Return whether the admission of a gated pod is decided."""
        pod = self._pods.get(uid)
        return pod is not None and pod.reservation is not None

    def __contains__(self, uid: object) -> bool:
        """Return whether a pod with this uid is gated."""
        return uid in self._pods

    def __iter__(self) -> Iterator[GatedPod]:
        """Iterate over all gated pods. Another thread may do this, for the metrics."""
        return iter(list(self._pods.values()))

    def _leave_group(self, pod: GatedPod) -> None:
        """Take a pod out of its queue, and release its reservation."""
        label, uid = pod.seen.group, pod.seen.uid
        of_group = self._of_group[label]
        of_group.discard(uid)
        if not of_group:
            del self._of_group[label]
        queue = self._queue_of(label)
        queue.remove(uid)
        queue.release(uid)

    def _enqueue(self, pod: GatedPod) -> None:
        """Put a waiting pod into its queue, or set it aside with its problem."""
        if not self._started:
            return
        seen = pod.seen
        queue = self._queue_of(seen.group)
        queue.remove(seen.uid)
        charge = self._charge_of(pod)
        pod.problem = self._problem(seen.group, queue.infeasibility(charge))
        if pod.problem is None:
            queue.add(QueuedJob(seen.uid, seen.user, charge, self._key(seen)))

    def _problem(self, label: str, infeasibility: str) -> PendingReason | None:
        """Return why a pod of a group cannot be admitted for now; None if it can."""
        group = self._groups.counting_with_label(label)
        if group is None:
            return Reason.INVALID_SPEC, f"no PhGroup has the label value {label!r} of primehub.io/group"
        if group.invalid:
            return Reason.INVALID_SPEC, f"group {group.group!r} is unusable: {group.invalid}"
        return (Reason.OVER_QUOTA, f"this pod {infeasibility}") if infeasibility else None

    def _charge_of(self, pod: GatedPod) -> dict[str, int]:
        return self._accounting.charge_of_pod(pod.seen)

    def _key(self, seen: PodSeen) -> QueueKey:
        # The revision of its creation is not known, so it is ahead of the jobs of the same second.
        return self._rank, seen.created or _UNKNOWN_AGE, 0, seen.name
