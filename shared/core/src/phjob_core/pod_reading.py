"""What a pod's status says about its containers, and about why it ended. Pure.

Kubelets, Kubernetes' controllers and other programs write the status of a pod, and Kubernetes validates
little of it. Without a tolerant reading, one odd status would leave its job without an end. So a part that
has another type than Kubernetes gives it counts as absent, and an unknown phase as `Unknown`.

`pod_status` has the table of what a reading means for a job.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from phjob_core.api import Object, PodPhase
from phjob_core.messages import CONTAINER_STATUS_UNKNOWN

MAIN_CONTAINER = "main"
"""The container of a job's pod that runs the command."""
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The kubelet's reason for a pod that it has ended at the pod's own `activeDeadlineSeconds`."""
POD_INITIALIZING = "PodInitializing"
"""The kubelet's reason for a container that waits for the pod's init containers."""
_PHASES: Mapping[str, PodPhase] = {str(phase): phase for phase in PodPhase}
_MAX_REASON_CHARS = 128
_MAX_MESSAGE_CHARS = 1024
_MAX_LAST_WORDS_CHARS = 2048
"""The length of a container's own message, of which the end counts. The kubelet quotes as much of a log."""
_MAX_EXIT_CODE = 2**31
"""Without it, another program's number could be too great for the CRD or the broker."""


@dataclass(frozen=True)
class Quotes:
    """The texts of a pod's status that belong into its job's message, and never into a fact (spec.md, E7)."""

    cause: str = ""
    """What its node says about the end of the whole pod."""
    last_words: str = ""
    """The end of what its container said last, usually the end of its log."""

    def without_log(self) -> "Quotes":
        """Return the quotes that may be repeated outside of the job, as in an Event."""
        return replace(self, last_words="")


class PodReading:
    """The reading of one pod's status."""

    def __init__(self, pod: Object) -> None:
        self._spec = _mapping(pod.get("spec"))
        self._status = _mapping(pod.get("status"))
        self._containers = tuple(_mappings(self._status.get("containerStatuses")))
        self._init_containers = tuple(_mappings(self._status.get("initContainerStatuses")))
        self._main = _named(self._containers, MAIN_CONTAINER)
        self._state = _mapping(self._main.get("state"))
        phase = self._status.get("phase") or PodPhase.PENDING
        self.phase = _PHASES.get(phase, PodPhase.UNKNOWN) if isinstance(phase, str) else PodPhase.UNKNOWN
        """The pod's phase; `Unknown` if it is none of Kubernetes'."""
        self.cause = _reason(self._status) if self.phase is PodPhase.FAILED else ""
        """The reason for which its node has ended or rejected the whole pod; otherwise empty.

        A pod that failed because of its containers has no reason of its own.
        """
        self._end = self._find_end()
        """The container's terminated state; empty if it has not ended."""
        self.exit_code = _exit_code(self._end)
        """The container's exit code; None if it has not ended, or nobody has reported one."""
        self.container_reason = _reason(self._end)
        """The reason of the container's end; empty if it has not ended."""
        self.start_time = parse_time((self._end or _mapping(self._state.get("running"))).get("startedAt"))
        """When the container started, by its node's clock; None if nobody has reported that."""
        self.finish_time = parse_time(self._end.get("finishedAt"))
        """When the container ended, by its node's clock; None if nobody has reported that."""
        self.has_started = self._shows_a_start()
        """True if anything shows that the container has started."""

    # --- the pod ---

    @property
    def reason(self) -> str:
        """Return the reason of the pod's state.

        The first source that has one counts: the node that ended the pod, the container, an init container
        that the container waits for, the kubelet, kube-scheduler.
        """
        return self.cause or _reason(self._explanation[0])

    @property
    def message(self) -> str:
        """Return the message that belongs to the reason. Of what a container said last, the end is kept."""
        source, prefix = (self._status, "") if self.cause else self._explanation
        text = str(source.get("message") or "")
        if source is self._end:
            return text[-_MAX_LAST_WORDS_CHARS:]
        return f"{prefix}{text}"[:_MAX_MESSAGE_CHARS]

    @property
    def disruption(self) -> str:
        """Return why Kubernetes ends the pod, if it has announced that; otherwise empty.

        Source: Kubernetes, Disruptions, "Pod disruption conditions".
        """
        condition = self._condition("DisruptionTarget", "True")
        if not condition:
            return ""
        text = ": ".join(filter(None, (_reason(condition), str(condition.get("message") or ""))))
        return text[:_MAX_MESSAGE_CHARS]

    @property
    def exceeded_deadline(self) -> int:
        """Return the pod's own deadline in seconds, if its node has ended the pod for it; otherwise 0."""
        deadline = self._spec.get("activeDeadlineSeconds")
        return deadline if self.cause == DEADLINE_EXCEEDED and isinstance(deadline, int) else 0

    # --- other containers ---

    @property
    def init_failure(self) -> str:
        """Return which init container has failed, and how; empty if the container did not wait for one.

        PhJob's pods have none. Others may inject them.
        """
        for status in () if self.has_started else self._init_containers:
            ended = _mapping(_mapping(status.get("state")).get("terminated"))
            ended = ended or _mapping(_mapping(status.get("lastState")).get("terminated"))
            if code := _exit_code(ended):
                name = str(status.get("name") or "?")[:_MAX_REASON_CHARS]
                return f"init container {name} failed: exit code {code} ({_reason(ended) or 'Error'})"
        return ""

    @property
    def runs_on(self) -> str:
        """Return which containers keep the pod from its end, although `main` has ended; otherwise empty.

        Injected ones do, such as a service mesh's. The kubelet itself ends a sidecar in Kubernetes' sense: an
        init container with `restartPolicy: Always`.
        """
        if self.exit_code is None or self.phase.finished:
            return ""
        states = ((status, _mapping(status.get("state"))) for status in self._containers)
        names = (str(status.get("name") or "?") for status, state in states if not state.get("terminated"))
        return ", ".join(names)[:_MAX_REASON_CHARS]

    @property
    def quotes(self) -> Quotes:
        """Return the texts for the message of a job whose pod has ended.

        A job whose container never started is sent back, and the message of a waiting job is part of a fact.
        So nothing that an init container said is quoted (spec.md, E7).
        """
        cause = str(self._status.get("message") or "") if self.cause else ""
        last_words = str(self._end.get("message") or "") if self.has_started else ""
        return Quotes(
            cause.strip().rstrip(".")[:_MAX_MESSAGE_CHARS], last_words[-_MAX_LAST_WORDS_CHARS:].strip()
        )

    # --- helpers ---

    def _find_end(self) -> Object:
        """Return the container's terminated state, also after the kubelet has lost the container."""
        ended = _mapping(self._state.get("terminated"))
        if not ended and self.phase.finished:
            ended = _mapping(_mapping(self._main.get("lastState")).get("terminated"))
        return ended

    def _shows_a_start(self) -> bool:
        """Return whether anything shows that the container has started.

        The kubelet may report the end of a container that did run without its start time: of one that it can
        no longer find, for example after an eviction. Then a restart count, the container's last state or its
        id show that there was one (kubelet_pods.go, convertToAPIContainerStatuses).
        """
        is_unknown = self.container_reason == CONTAINER_STATUS_UNKNOWN
        return bool(
            self._state.get("running") is not None
            or self.start_time
            or (self.exit_code is not None and not is_unknown)
            or _mapping(self._main.get("lastState")).get("terminated")
            or self._main.get("restartCount")
            or (is_unknown and self._main.get("containerID"))
        )

    @property
    def _explanation(self) -> tuple[Object, str]:
        """Return the part of the status that has the reason and the message of its state.

        Also returns the beginning of the message, if the part does not say whose state it is.
        """
        source, prefix = self._end or _mapping(self._state.get("waiting")), ""
        if not _is_informative(source) and not self.has_started:
            source, prefix = next(self._waiting_init_containers, (source, ""))
        if not _reason(source):
            source = self._status
        if not _reason(source):
            source = self._condition("PodScheduled", "False")
        return source, prefix

    @property
    def _waiting_init_containers(self) -> Iterator[tuple[Object, str]]:
        """Yield the waiting state of each init container that cannot start, and a prefix with its name."""
        for status in self._init_containers:
            waiting = _mapping(_mapping(status.get("state")).get("waiting"))
            if _is_informative(waiting):
                yield waiting, f"init container {status.get('name')}: "

    def _condition(self, kind: str, value: str) -> Object:
        """Return the pod's condition of that type, if its status is `value`; otherwise an empty object."""
        for condition in _mappings(self._status.get("conditions")):
            if condition.get("type") == kind and condition.get("status") == value:
                return condition
        return {}


def parse_time(text: object) -> datetime | None:
    """Return a time of a container or a status, in UTC.

    Returns None if there is none, or if Python cannot represent it. Container runtimes report "never" as the
    start of 1970. Kubernetes accepts the year 0, Python does not. Without this, a job with such a time would
    be unreadable as a whole.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        time = time.astimezone(UTC) if time and time.tzinfo else None
    except (ValueError, OverflowError):
        return None
    return time if time and time.timestamp() > 0 else None


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> Iterator[Object]:
    """Yield the objects of a list; nothing if it is none."""
    return (item for item in (value if isinstance(value, list | tuple) else ()) if isinstance(item, dict))


def _named(statuses: tuple[Object, ...], name: str) -> Object:
    return next((status for status in statuses if status.get("name") == name), {})


def _reason(source: Object) -> str:
    return str(source.get("reason") or "")[:_MAX_REASON_CHARS]


def _exit_code(ended: Object) -> int | None:
    code = ended.get("exitCode")
    is_code = isinstance(code, int) and not isinstance(code, bool) and abs(code) < _MAX_EXIT_CODE
    return code if is_code else None


def _is_informative(source: Object) -> bool:
    return _reason(source) not in ("", POD_INITIALIZING)
