"""The pod-manager's own metrics, called by the name of what happened."""

from prometheus_client import Counter, Gauge, Histogram

_TRANSITIONS = Counter("phjob_transitions", "Phases written, by reason", ["phase", "reason"])
_REFUSED = Counter(
    "phjob_pod_manager_writes_refused", "Writes that came too late, by what they were", ["what"]
)
_REPEATED = Counter("phjob_pod_manager_requests_repeated", "Requests without a definite answer", ["what"])
_IGNORED = Counter("phjob_pod_manager_orders_ignored", "Orders not obeyed, by kind and why", ["kind", "why"])
_FAILED = Counter("phjob_pod_manager_lane_failures", "Errors that nobody foresaw")
_LOGS_STORED = Counter("phjob_log_archive_stored", "Logs put into the archive")
_LOG_BYTES = Counter("phjob_log_archive_bytes", "Bytes put into the archive")
_LOG_SECONDS = Histogram(
    "phjob_log_archive_duration_seconds",
    "How long a log took into the archive",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
_LOG_FAILURES = Counter("phjob_log_archive_failures", "Tries to store a log that failed")
_LOGS_WAITING = Gauge("phjob_log_archive_waiting", "Logs that could not be stored yet and are tried again")
_LOGS_LOST = Counter("phjob_log_archive_lost", "Pods deleted without their log in the archive")


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


def log_stored(size: int, seconds: float) -> None:
    """A log of so many bytes is in the archive."""
    _LOGS_STORED.inc()
    _LOG_BYTES.inc(size)
    _LOG_SECONDS.observe(seconds)


def log_failed() -> None:
    """A log could not be stored."""
    _LOG_FAILURES.inc()


def logs_waiting(count: int) -> None:
    """So many logs could not be stored and are tried again."""
    _LOGS_WAITING.set(count)


def log_lost() -> None:
    """A pod is deleted though its log could not be stored."""
    _LOGS_LOST.inc()
