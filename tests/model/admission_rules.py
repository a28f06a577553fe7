"""The rules of the admission protocol: which requests a client may send, based on what it has read. Pure.

It is for contributors who change how pod-manager handles a job and its pod. A test omits one `Rule` at a
time, and the model must then break a promise.
"""

from collections.abc import Iterator
from enum import StrEnum

from tests.model.admission_state import Job, Kind, Phase, Request, State
from tests.model.pod import Pod, Terminal


class Rule(StrEnum):
    """The parts of the protocol that a test can omit."""

    GATE = "a pod is created with a gate"
    UNGATE_UID = "the removal of the gate tests the pod's uid"
    NAME_POD = "an admission names the uid of its pod"
    ABSENCE = "a pod that is gone may have started"
    FRESH_READ = "a pod counts as gone only if a read after the job's finds none"
    LAST_STATE = "a bound pod that is not terminal may have started"
    KUBELET = "a pod may start if another client than its kubelet wrote its terminal phase"
    """Hazard: the node object is gone, and the pod garbage collector writes Failed. The kubelet runs."""
    FINALIZER = "a requeue keeps the pod's last state readable by a finalizer"
    NOT_FOUND = "a deletion that finds no pod proves nothing"
    WRITE_FIRST = "a requeue writes Pending before it removes the finalizer"
    JOB_LAST = "to remove a finalizer, read the pod first and the job second"
    UNCHANGED = "a requeue deletes its pod only if it has not started since the read"
    """Hazard: the deletion is late, and the command runs. It needs the resourceVersion as read."""
    SETTLE = "a pod of a Pending job is deleted only once no admission can name it"
    """Hazard: a pod-manager that was cut off deletes the pod that its successor is about to name."""
    ROOM = "a gated pod is charged if its job's status named it"
    """Hazard: a job is cancelled or deleted while the removal of its pod's gate is in flight."""
    RELEASE = "any pod-manager removes the finalizer of a pod that no Preparing job names"
    """Hazard: a late finalizer arrives after the job has ended. Without this rule, it stays forever."""
    ENDED = "a retry needs the end of the container, as its kubelet reported it"
    """Hazard: the pod is gone, or is to be deleted, and its container still runs."""


class Rules:
    """The rules of the protocol, without those that a test omits."""

    def __init__(self, *without: Rule, retries: int = 0) -> None:
        """`retries` is the number of retries that the job's user permits."""
        self.without = without
        self.retries = retries

    def is_named(self, job: Job, pod: Pod | None) -> bool:
        """Return whether the status of an admitted or final job names the pod."""
        if pod is None or job.phase is Phase.PENDING:
            return False
        return job.fence == pod.token if Rule.NAME_POD in self.without else job.pod == pod.uid

    def is_gone(self, job: Job, pod: Pod | None) -> bool:
        """Return whether the pod that an admitted job names counts as gone."""
        return not self.is_named(job, pod) or Rule.FRESH_READ in self.without

    def is_counted(self, job: Job, pod: Pod) -> bool:
        """Return whether the scheduler charges the job, or the pod that its status named."""
        return job.is_admitted() or not pod.gated or Rule.ROOM not in self.without

    def is_proof(self, pod: Pod) -> bool:
        """Return whether the pod's last known state proves that it can never start."""
        if pod.reported:
            return False
        if not pod.bound:
            return bool(pod.deletion)
        if Rule.LAST_STATE in self.without:
            return True
        return pod.terminal is Terminal.KUBELET or (bool(pod.terminal) and Rule.KUBELET in self.without)

    def requests(self, s: State) -> Iterator[Request]:
        """Yield the requests that a client may send after it has read the pod and the job."""
        job, pod = s.job, s.pod
        is_proved = job.pod in s.unstarted or Rule.ABSENCE in self.without
        if job.phase is Phase.PREPARING and not self.is_named(job, pod) and is_proved:
            yield Request(Kind.REQUEUE, job.pod, job.fence)
        if job.is_admitted() and job.retried < self.retries and self._has_ended(job, pod):
            yield Request(Kind.RETRY, fence=job.fence)
        if pod is None:
            return
        if job.phase is Phase.PREPARING and self.is_named(job, pod):
            yield Request(Kind.UNGATE, pod.uid)
            if pod.reported:
                yield Request(Kind.RUN, fence=job.fence)
            yield from self._requeue(job, pod)
        elif pod.finalizer and (job.phase is Phase.PENDING or Rule.RELEASE not in self.without):
            yield Request(Kind.REMOVE_FINALIZER, pod.uid)
        if job.is_admitted() and self.is_named(job, pod) and pod.terminal and not self.is_proof(pod):
            yield Request(Kind.END, pod.uid, job.fence)
        if self._is_stray(s, pod):
            yield Request(Kind.DELETE, pod.uid)

    def _has_ended(self, job: Job, pod: Pod | None) -> bool:
        """Return whether the command of the pod that the job names counts as ended."""
        if pod is None or not self.is_named(job, pod):
            return Rule.ENDED in self.without
        has_ended = pod.reported and pod.terminal is Terminal.KUBELET
        return has_ended or (bool(pod.deletion) and Rule.ENDED in self.without)

    def _requeue(self, job: Job, pod: Pod) -> Iterator[Request]:
        """Yield the requests of a requeue.

        The finalizer only keeps the pod's last state readable. A proof that is read without it is as good,
        for example that of a pod that its kubelet has rejected.
        """
        yield Request(Kind.ADD_FINALIZER, pod.uid)
        if not pod.reported and (pod.finalizer or {Rule.FINALIZER, Rule.NOT_FOUND} & {*self.without}):
            yield Request(Kind.DELETE_UNSTARTED, pod.uid)
        if self.is_proof(pod):
            yield Request(Kind.REQUEUE, pod.uid, job.fence)
        if pod.finalizer and (
            Rule.JOB_LAST in self.without or (Rule.WRITE_FIRST in self.without and self.is_proof(pod))
        ):
            yield Request(Kind.REMOVE_FINALIZER, pod.uid)

    def _is_stray(self, s: State, pod: Pod) -> bool:
        """Return whether the pod is stray. It may be deleted in any state."""
        if s.job.phase is Phase.PENDING:
            return s.is_unnameable(pod.uid) or Rule.SETTLE in self.without
        return s.job.phase is Phase.FINAL or not self.is_named(s.job, pod)
