"""The next step for one job: what closes the gap between what is and what should be.

Pure and level-triggered: it looks at the job, its pod and what is wished, and names one step; doing
a step twice is harmless. The phases and their order are `shared.lifecycle`'s.
"""

from dataclasses import dataclass

from shared.lifecycle import POD_UNWANTED, Event
from shared.messages import JobSeen, PodSeen
from shared.phjob import Phase, PodPhase


@dataclass(frozen=True)
class Wish:
    """What the janitor ordered, until it is done or has become pointless.

    One that is lost is no harm: the janitor orders again until it sees the effect.
    """

    event: Event | None
    """What shall happen to the job; None: only its pod shall go (a finished job's)."""
    message: str
    fence: str


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


@dataclass(frozen=True)
class Transit:
    """Write what the event does to the job."""

    event: Event
    message: str


@dataclass(frozen=True)
class MarkReclaimed:
    """Write that nothing of the job is left but its record."""


Step = CreatePod | DeletePod | Transit | MarkReclaimed


def wish_is_pointless(job: JobSeen, wish: Wish) -> bool:
    """Whether what was ordered can't apply any more: the job has moved on."""
    expected = {
        Event.NOT_STARTED: job.phase is Phase.PREPARING,
        Event.POD_REFUSED: job.phase is Phase.PREPARING,
        Event.OVER_DEADLINE: job.phase is Phase.RUNNING,
        None: job.phase.final,
    }
    return wish.fence != job.fence or not expected.get(wish.event, False)


def relies_on_absence(step: Step) -> bool:
    """Whether the step is right only if the job, for which no pod is known, really has none."""
    refused = (Event.POD_REFUSED, Event.POD_INVALID)
    return isinstance(step, MarkReclaimed) or (isinstance(step, Transit) and step.event not in refused)


def next_step(job: JobSeen, pod: PodSeen | None, wish: Wish | None, *, had_pod: bool) -> Step | None:
    """The next step, or None: all is as it should be, or somebody else must act first.

    `had_pod`: a pod of the current admission has been seen before.
    """
    if pod and job.phase.admitted and pod.fence != job.fence:
        return _delete(pod, stray=True)  # made for an admission that is over
    match job.phase:
        case Phase.PENDING:
            return _pending(job, pod)
        case Phase.PREPARING:
            return _preparing(job, pod, wish, had_pod=had_pod)
        case Phase.RUNNING:
            return _running(job, pod, wish)
    return _final(job, pod, wish)


def _pending(job: JobSeen, pod: PodSeen | None) -> Step | None:
    if job.cancel:
        return Transit(Event.CANCELLED, "cancelled while it waited")
    return _delete(pod, stray=True) if pod else None  # no pod may outlive its admission


def _preparing(job: JobSeen, pod: PodSeen | None, wish: Wish | None, *, had_pod: bool) -> Step | None:
    step = _by_pod(pod, wish) if pod else None
    if step and not (job.cancel and step.event is Event.POD_RUNNING):
        return step
    if job.cancel:
        return Transit(Event.CANCELLED, "cancelled while it was prepared")
    if pod is None:
        if wish and wish.event:
            return Transit(wish.event, wish.message)
        return Transit(Event.POD_GONE, "its pod was deleted") if had_pod else CreatePod()
    if wish:
        return _delete(pod, only_as_seen=True)  # so that one that has started meanwhile lives
    return None


def _running(job: JobSeen, pod: PodSeen | None, wish: Wish | None) -> Step | None:
    if pod and (step := _by_pod(pod, None)) and step.event is not Event.POD_RUNNING:
        return step
    if job.cancel:
        return Transit(Event.CANCELLED, "cancelled while it ran")
    if pod is None:
        return Transit(Event.POD_GONE, "its pod was deleted while it ran")
    if wish and wish.event:
        return Transit(wish.event, wish.message)
    return None


def _final(job: JobSeen, pod: PodSeen | None, wish: Wish | None) -> Step | None:
    if pod is None:
        return MarkReclaimed()
    if wish or job.reason in POD_UNWANTED or pod.fence != job.fence:
        return _delete(pod)
    return None


def _by_pod(pod: PodSeen, wish: Wish | None) -> Transit | None:
    """What the pod's own state says about the job."""
    if pod.phase is PodPhase.SUCCEEDED:
        return Transit(Event.POD_SUCCEEDED, "exit code 0")
    if wish and pod.deleting:
        return None  # being requeued: however it ends now, that was us
    if pod.phase is PodPhase.FAILED:
        return Transit(Event.POD_FAILED, _why_failed(pod))
    if pod.phase is PodPhase.RUNNING and not pod.deleting:
        return Transit(Event.POD_RUNNING, "")
    return None


def _why_failed(pod: PodSeen) -> str:
    said = f": {pod.message.strip()}" if pod.message.strip() else ""
    if pod.exit_code is None:
        return f"the pod failed ({pod.reason or 'no reason given'}){said}"
    return f"exit code {pod.exit_code} ({pod.reason or 'Error'}){said}"


def _delete(pod: PodSeen, *, only_as_seen: bool = False, stray: bool = False) -> DeletePod | None:
    if pod.deleting:
        return None
    return DeletePod(pod, pod.resource_version if only_as_seen else None, stray)
