"""The pod-manager's own metrics, called by the name of what happened."""

from prometheus_client import Counter

_TRANSITIONS = Counter("phjob_transitions", "Phases written, by reason", ["phase", "reason"])
_REFUSED = Counter(
    "phjob_pod_manager_writes_refused", "Writes that came too late, by what they were", ["what"]
)
_REPEATED = Counter("phjob_pod_manager_requests_repeated", "Requests without a definite answer", ["what"])
_IGNORED = Counter("phjob_pod_manager_orders_ignored", "Orders not obeyed, by kind and why", ["kind", "why"])
_FAILED = Counter("phjob_pod_manager_lane_failures", "Errors that nobody foresaw")


def transition(phase: str, reason: str) -> None:
    """A job's phase was written."""
    _TRANSITIONS.labels(phase, reason).inc()


def refused(what: str) -> None:
    """A compare-and-swap failed: the job had moved on."""
    _REFUSED.labels(what).inc()


def repeated(what: str) -> None:
    """A request had no definite answer and is made again."""
    _REPEATED.labels(what).inc()


def ignored(kind: str, why: str) -> None:
    """An order was not obeyed."""
    _IGNORED.labels(kind, why).inc()


def failed() -> None:
    """A job's work ended in an error that nobody foresaw."""
    _FAILED.inc()
