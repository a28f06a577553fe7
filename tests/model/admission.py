"""A model of one job's admission, in which events may occur in any order.

It is for contributors who change how a job gets a pod, loses it, or is requeued. The protocol is:

1. Create: a pod with a scheduling gate, and the command's token as an annotation.
2. Admit: a compare-and-swap from Pending to Preparing, which writes the token and the pod's uid.
3. Ungate: a patch that tests the pod's uid and removes the gate.
4. Run: a compare-and-swap on phase and fence.
5. End: the same.

A requeue adds a finalizer to the pod (R1) and deletes the pod (R2). It reads that the pod can never start
(R3), writes Pending (R4), and removes the finalizer (R5). A retry reads that the command has ended, and
writes Pending. `admission_rules.py` has the rules.

No order of events breaks a `Promise`. The model has no pod-managers. It keeps each request that the rules
allow in the current state. The request may arrive at any later moment, in any order, several times, or never.
Therefore the number of pod-managers, their roles and their memory do not matter. They have one obligation: to
decide on a pod and its job, read the pod first and the job second.

If a test asks for it, a third party may delete the pod at any moment, and the job may be retried. The model
leaves out other jobs (`fence.py`), a later job of the same name, and nodes that never return. Of retries, it
leaves out those after the deletion of a Node object, whose machine might still run (spec.md, L17).
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from tests.model.admission_rules import Rule, Rules
from tests.model.admission_state import End, Job, Kind, Phase, Request, State
from tests.model.explore import Step
from tests.model.pod import (
    Deletion,
    Pod,
    Terminal,
    deleted,
    steps_of_cluster,
    steps_of_third_parties,
    with_finalizer,
    without_finalizer,
)

SETTLED: Final = 100
"""The offset of the token that a settlement writes, so that no token is used twice."""


class Promise(StrEnum):
    """The promises of the protocol."""

    ONE_START = "the command never starts twice, nor more often than its user permits"
    ALONE = "the command never runs twice at the same time"
    NO_RETURN = "a job is never Pending again if its command may run, or ran without a permitted retry"
    NAMED = "no pod may start that its job does not name, or whose job ended without a pod"
    ROOM = "a pod that may start is charged"
    RUNS_ON = "a pod-manager never deletes the pod of a command that runs"
    REQUEUED = "no unstarted job fails because its pod is gone, unless a third party deleted it"


class AdmissionModel:
    """The protocol, without the rules that a test omits."""

    initial = State()

    def __init__(
        self,
        *without: Rule,
        third_party: bool = False,
        promises: Iterable[Promise] = Promise,
        commands: int = 3,
        pods: int = 3,
        retries: int = 0,
    ) -> None:
        self.without = without
        self.rules = Rules(*without, retries=retries)
        self.third_party = third_party
        self.promises = frozenset(promises)
        self.max_commands = commands
        self.max_pods = pods

    def broken_promise(self, s: State) -> str:
        """Return the first promise that the state breaks, of those that the test checks; otherwise ""."""
        return next((promise for promise in self._broken_promises(s) if promise in self.promises), "")

    def _broken_promises(self, s: State) -> Iterator[Promise]:
        job, pod = s.job, s.pod
        if s.starts > 1 + job.retried:
            yield Promise.ONE_START
        if s.starts > 1 + s.ended:
            yield Promise.ALONE
        may_run = s.orphans or s.starts > min(s.ended, job.retried)
        if job.phase is Phase.PENDING and may_run:
            yield Promise.NO_RETURN
        if pod and pod.can_start() and not self._is_held_back(s, pod):
            # The job waits, has a later admission, or ended without a pod.
            if not self.rules.is_named(job, pod) or job.end is End.POD_GONE:
                yield Promise.NAMED
            elif not pod.terminal and not self.rules.is_counted(job, pod):
                yield Promise.ROOM
        if s.killed:
            yield Promise.RUNS_ON
        if job.end is End.POD_GONE and not s.starts and not self.third_party:
            yield Promise.REQUEUED

    def is_at_rest(self, s: State) -> bool:
        """Return whether the job is Pending or final, and has no pod."""
        return s.pod is None and not s.job.is_admitted()

    def _is_held_back(self, s: State, pod: Pod) -> bool:
        return pod.gated and Request(Kind.UNGATE, pod.uid) not in s.allowed

    # --- steps ---

    def steps(self, s: State) -> Iterator[Step[State]]:
        """Yield every step that may happen next."""
        yield from self._scheduler_and_users(s)
        yield from self._cluster(s)
        yield from self._current_writes(s)
        now = {*self.rules.requests(s)}
        for request in s.allowed:
            if (after := self._after_arrival(s, request)) != s:
                # Creations and admissions are never late, because only their command allows them.
                late = "" if request in now or request.token else "late "
                yield f"the {late}{request} arrives", self._with_allowed_requests(after)

    def certain_steps(self, s: State) -> Iterator[Step[State]]:
        """Yield every step that is certain while the services and kubelets run."""
        yield from self._cluster(s)
        yield from self._current_writes(s)
        for request in self.rules.requests(s._replace(unstarted=())):
            yield f"the {request} arrives", self._with_allowed_requests(self._after_arrival(s, request))

    def _scheduler_and_users(self, s: State) -> Iterator[Step[State]]:
        if s.job.phase is Phase.PENDING and s.commands < self.max_commands:
            command = Request(Kind.CREATE, fence=s.job.fence, token=s.commands + 1)
            after = s._replace(commands=command.token, allowed=(*s.allowed, command))
            yield f"the scheduler sends admission {command.token}", self._with_allowed_requests(after)
        if s.job.phase is not Phase.FINAL:
            yield "the job is cancelled or deleted", self._with_allowed_requests(_with_end(s, End.BY_USER))
        if s.pod and self.third_party:
            for label, pod in steps_of_third_parties(s.pod):
                yield label, self._with_allowed_requests(self._with_pod(s, pod))

    def _cluster(self, s: State) -> Iterator[Step[State]]:
        if s.pod:
            for label, pod in steps_of_cluster(s.pod):
                started = pod is not None and pod.started and not s.pod.started
                after = self._with_pod(s, pod)._replace(
                    starts=s.starts + started, ended=s.ended + self._is_end(s.pod, pod)
                )
                yield label, self._with_allowed_requests(after)
        if s.orphans:
            after = s._replace(orphans=s.orphans - 1, starts=s.starts + 1)
            yield "a kubelet starts the container of a pod that is gone", after

    def _is_end(self, before: Pod, after: Pod | None) -> bool:
        """Return whether the kubelet has just reported the end of a container that had started."""
        was_running = before.started and before.terminal is not Terminal.KUBELET
        has_ended = after is not None and after.terminal is Terminal.KUBELET
        return self.rules.retries > 0 and was_running and has_ended

    def _current_writes(self, s: State) -> Iterator[Step[State]]:
        """Yield the writes whose reason stays true as long as they can succeed.

        A late one has no effect that a new one could not have. Therefore none is kept.
        """
        if s.job.is_admitted() and self.rules.is_gone(s.job, s.pod) and Rule.ABSENCE not in self.without:
            yield "the job fails: its pod is gone", self._with_allowed_requests(_with_end(s, End.POD_GONE))
        if s.job.phase is Phase.PENDING and any(r.token and r.fence == s.job.fence for r in s.allowed):
            settled = s.job._replace(fence=s.job.fence + SETTLED)
            yield "the command is settled", self._with_allowed_requests(s._replace(job=settled))

    # --- the effects of requests ---

    def _after_arrival(self, s: State, request: Request) -> State:
        """Return the state after the API server has carried out or rejected the request."""
        if request.kind is Kind.CREATE:
            return self._after_creation(s, request)
        if request.kind in {Kind.ADMIT, Kind.RUN, Kind.END, Kind.REQUEUE, Kind.RETRY}:
            return self._after_job_write(s, request)
        if s.pod:
            return self._after_pod_write(s, s.pod, request)
        if request.kind is Kind.DELETE_UNSTARTED:  # Kept for a pod that is gone only without NOT_FOUND.
            return s._replace(unstarted=(*s.unstarted, request.uid))
        return s

    def _after_creation(self, s: State, command: Request) -> State:
        if s.pod or s.pods == self.max_pods:
            return s
        pod = Pod(s.pods + 1, command.token, gated=Rule.GATE not in self.without)
        admission = Request(Kind.ADMIT, pod.uid, command.fence, command.token)
        return s._replace(pod=pod, pods=pod.uid, allowed=(*s.allowed, admission))

    def _after_job_write(self, s: State, request: Request) -> State:
        """Return the state after a compare-and-swap. It succeeds, because it is only kept while it can."""
        match request.kind:
            case Kind.ADMIT:
                uid = 0 if Rule.NAME_POD in self.without else request.uid
                return s._replace(job=Job(Phase.PREPARING, request.token, uid, retried=s.job.retried))
            case Kind.RUN:
                return s._replace(job=s.job._replace(phase=Phase.RUNNING))
            case Kind.REQUEUE | Kind.RETRY:
                retried = s.job.retried + (request.kind is Kind.RETRY)
                return s._replace(job=Job(Phase.PENDING, s.job.fence, retried=retried))
        return _with_end(s, End.BY_POD)

    def _after_pod_write(self, s: State, pod: Pod, request: Request) -> State:
        match request.kind:
            case Kind.UNGATE:
                return s._replace(pod=pod._replace(gated=False))
            case Kind.ADD_FINALIZER:
                return s._replace(pod=with_finalizer(pod))
            case Kind.REMOVE_FINALIZER:
                return self._with_pod(s, without_finalizer(pod))
            case Kind.DELETE_UNSTARTED if pod.reported and Rule.UNCHANGED not in self.without:
                return s
        runs = pod.reported and not pod.terminal
        s = s._replace(killed=runs and s.job.is_admitted() and self.rules.is_named(s.job, pod))
        if request.kind is Kind.DELETE_UNSTARTED and Rule.FINALIZER in self.without:
            s = s._replace(unstarted=(*s.unstarted, pod.uid))
        return self._with_pod(s, deleted(pod))

    def _with_pod(self, s: State, pod: Pod | None) -> State:
        """Return the state with a changed pod. If it is gone, the watch has reported its last state."""
        if pod is None and s.pod is not None:
            last = s.pod if s.pod.bound else s.pod._replace(deletion=Deletion.IMMEDIATE)
            if self.rules.is_proof(last):
                s = s._replace(unstarted=(*s.unstarted, last.uid))
            s = s._replace(orphans=s.orphans + (last.bound and last.can_start()))
        return s._replace(pod=pod)

    # --- the kept requests ---

    def _with_allowed_requests(self, s: State) -> State:
        """Drop the requests that can no longer have an effect, and add the allowed ones."""
        kept = tuple(r for r in s.allowed if self._can_have_effect(s, r))
        nameable = {r.uid for r in kept if r.kind is Kind.ADMIT}
        if s.job.phase is Phase.PREPARING:
            nameable.add(s.job.pod)
        s = s._replace(allowed=kept, unstarted=tuple(sorted(nameable & {*s.unstarted})))
        return s._replace(allowed=tuple(sorted({*kept, *self.rules.requests(s)})))

    def _can_have_effect(self, s: State, r: Request) -> bool:
        """Return whether the request may still have an effect. No fence and no uid is used again."""
        match r.kind:
            case Kind.CREATE:
                return s.job.phase is not Phase.FINAL or s.pods < self.max_pods
            case Kind.ADMIT:
                return s.job.phase is Phase.PENDING and s.job.fence == r.fence
            case Kind.RUN | Kind.REQUEUE:
                return s.job.phase is Phase.PREPARING and s.job.fence == r.fence
            case Kind.END | Kind.RETRY:
                return s.job.is_admitted() and s.job.fence == r.fence
            case Kind.UNGATE if Rule.UNGATE_UID in self.without:
                return True
            case Kind.DELETE_UNSTARTED if Rule.NOT_FOUND in self.without:
                return s.job.phase is Phase.PREPARING
        return s.pod is not None and s.pod.uid == r.uid


def _with_end(s: State, end: End) -> State:
    return s._replace(job=s.job._replace(phase=Phase.FINAL, end=end))
