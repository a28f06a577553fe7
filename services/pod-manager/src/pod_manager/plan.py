"""The next step for one job: what closes the gap between what is and what should be.

Pure and level-triggered: it looks at the job, its pod and what is wished, and names one step; doing
a step twice is harmless. The phases and their order are `shared.lifecycle`'s.
"""

from dataclasses import dataclass

from shared.lifecycle import POD_UNWANTED, Event, Transition, transition
from shared.messages import JobSeen, PodSeen
from shared.phjob import Phase, PodPhase, Reason


@dataclass(frozen=True)
class Wish:
    """What the janitor ordered, until it is done or has become pointless.

    One that is lost is no harm: the janitor orders again until it sees the effect.
    """

    event: Event
    name: str
    """The job's."""
    fence: str
    message: str = ""
    generation: int | None = None
    """The spec that it was decided on, where an edit made since comes first; None: any."""
    explained: bool = False
    """Whether the message says already why the pod did not start."""


@dataclass(frozen=True)
class Log:
    """What is to be done about the log of the job's pod."""

    store: bool = False
    """It is not stored yet, and it is time to try."""
    hold: bool = False
    """The pod may not be deleted before it is stored."""


@dataclass(frozen=True)
class Situation:
    """A job, and all that its next step depends on."""

    job: JobSeen
    pod: PodSeen | None = None
    wish: Wish | None = None
    had_pod: bool = True
    """Whether a pod of the current admission has been seen before."""
    node_lost: bool = False
    """Whether the pod's node is unresponsive."""
    log: Log = Log()


@dataclass(frozen=True)
class CreatePod:
    """Create the job's pod."""


@dataclass(frozen=True)
class DeletePod:
    """Delete the pod, if it still is as it was seen (`revision`) where that matters."""

    pod: PodSeen
    revision: int | None = None
    stray: bool = False
    """Because it seems to belong to no admission of its job: to be made sure of before."""
    force: bool = False
    """Without its node, which can't say that it has ended."""


@dataclass(frozen=True)
class StoreLog:
    """Put the pod's log into the archive."""

    pod: PodSeen


@dataclass(frozen=True)
class Transit:
    """Write what the event does to the job."""

    event: Event
    why: str = ""


@dataclass(frozen=True)
class MarkReclaimed:
    """Write that nothing of the job is left but its record."""


@dataclass(frozen=True)
class DeleteRecord:
    """Delete the job itself: its history is over."""


Step = CreatePod | DeletePod | StoreLog | Transit | MarkReclaimed | DeleteRecord


def wish_is_pointless(job: JobSeen, wish: Wish, *, node_lost: bool) -> bool:
    """Whether what was ordered can't apply any more: job or node have moved on, or the job was edited."""
    if wish.fence != job.fence or wish.generation not in (None, job.generation):
        return True
    if wish.event is Event.NODE_GIVEN_UP and not node_lost:
        return True
    return not isinstance(transition(job.phase, wish.event), Transition)


def relies_on_absence(step: Step) -> bool:
    """Whether the step is right only if the job, for which no pod is known, really has none."""
    return isinstance(step, Transit | MarkReclaimed | DeleteRecord)


def next_step(now: Situation) -> Step | None:
    """The next step, or None: all is as it should be, or somebody else must act first."""
    if now.pod and now.job.phase.admitted and now.pod.fence != now.job.fence:
        return _delete(now, now.pod, stray=True)  # made for an admission that is over
    match now.job.phase:
        case Phase.PENDING:
            return _pending(now)
        case Phase.PREPARING:
            return _preparing(now)
        case Phase.RUNNING:
            return _running(now)
    return _final(now)


def step_without_job(pod: PodSeen, *, record: bool, node_lost: bool) -> DeletePod | None:
    """What becomes of the pod of a job that was deleted, or of which only its record is left (`record`).

    The first is ended by Kubernetes, where it can; the second was created too late, and nobody waits for it.
    """
    if pod.deleting:
        return DeletePod(pod, force=True) if node_lost else None
    return DeletePod(pod) if record else None


def _pending(now: Situation) -> Step | None:
    if now.job.cancel:
        return Transit(Event.CANCELLED)
    return _delete(now, now.pod, stray=True) if now.pod else None  # no pod may outlive its admission


def _preparing(now: Situation) -> Step | None:
    job, pod, wish = now.job, now.pod, now.wish
    step = _by_pod(now, pod) if pod else None
    if step and not (job.cancel and step.event is Event.POD_RUNNING):
        return step
    if job.cancel:
        return Transit(Event.CANCELLED)
    if pod is None:
        if wish:
            return Transit(wish.event, wish.message)
        return Transit(Event.POD_GONE, "its pod was deleted") if now.had_pod else CreatePod()
    if wish and wish.event is Event.NODE_GIVEN_UP:
        return Transit(wish.event, wish.message)
    # As it was seen, so that one that has started meanwhile lives.
    deletion = _delete(now, pod, only_as_seen=True) if wish else None
    return deletion or _by_node(now, pod)


def _running(now: Situation) -> Step | None:
    job, pod, wish = now.job, now.pod, now.wish
    if pod and (step := _by_pod(now, pod)) and step.event is not Event.POD_RUNNING:
        return step
    if job.cancel:
        return Transit(Event.CANCELLED)
    if pod is None:
        return Transit(Event.POD_GONE)
    if wish:
        return Transit(wish.event, wish.message)
    return _by_node(now, pod)


def _final(now: Situation) -> Step | None:
    job, pod, wish = now.job, now.pod, now.wish
    forget = wish is not None and wish.event is Event.HISTORY_OVER
    if pod is None:
        return DeleteRecord() if forget else MarkReclaimed()
    if wish or job.reason in POD_UNWANTED or pod.fence != job.fence:
        return _delete(now, pod)
    if now.log.store and pod.phase.finished:
        return StoreLog(pod)
    return None


def _by_pod(now: Situation, pod: PodSeen) -> Transit | None:
    """What the pod's own state says about the job."""
    if pod.phase is PodPhase.SUCCEEDED:
        return Transit(Event.POD_SUCCEEDED)
    if now.wish and now.wish.event is Event.NOT_STARTED and pod.deleting:
        return None  # being requeued: however it ends now, that was us
    if pod.phase is PodPhase.FAILED:
        event = _how_failed(now.job, pod)
        return Transit(event, _why_killed(pod) if event is Event.POD_KILLED else _why_failed(pod))
    if pod.phase is PodPhase.RUNNING:
        return Transit(Event.POD_RUNNING)
    return None


def _how_failed(job: JobSeen, pod: PodSeen) -> Event:
    """Whether the container failed, was killed by somebody's deletion of the pod, or never started."""
    if not pod.started and job.phase is Phase.PREPARING:
        return Event.POD_REJECTED
    before = pod.deleted_at is None or (pod.finish_time is not None and pod.finish_time < pod.deleted_at)
    return Event.POD_FAILED if before else Event.POD_KILLED


def _why_failed(pod: PodSeen) -> str:
    said = f": {pod.message.strip()}" if pod.message.strip() else ""
    if pod.exit_code is None:
        return f"the pod failed ({pod.reason or 'no reason given'}){said}"
    return f"exit code {pod.exit_code} ({pod.reason or 'Error'}){said}"


def _why_killed(pod: PodSeen) -> str:
    return f": {pod.disruption}" if pod.disruption else ""


def _by_node(now: Situation, pod: PodSeen) -> Transit | None:
    """What the pod's node says about the job, or does not say any more."""
    if now.node_lost == (now.job.reason == Reason.NODE_LOST):
        return None
    return Transit(Event.NODE_LOST if now.node_lost else Event.NODE_BACK, pod.node)


def _delete(
    now: Situation, pod: PodSeen, *, only_as_seen: bool = False, stray: bool = False
) -> DeletePod | StoreLog | None:
    """Delete the pod, with its log stored before.

    The pod of a finished job on a node that is lost is deleted by force: nobody could say that it
    has ended, and its user said that he waits no more. Any other waits for its node, for its command
    may still run there, and would run twice.
    """
    force = now.node_lost and now.job.phase.final
    if pod.deleting and not force:
        return None
    if now.log.hold:
        return StoreLog(pod) if now.log.store else None
    return DeletePod(pod, pod.resource_version if only_as_seen else None, stray, force)
