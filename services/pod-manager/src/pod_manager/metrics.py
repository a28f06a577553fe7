"""The pod-manager's own metrics, called by the name of what happened."""

from datetime import timedelta

from prometheus_client import Counter, Gauge, Histogram

_TRANSITIONS = Counter(
    "phjob_transitions", "Phases written: admitted, requeued, finished, ...", ["group", "phase", "reason"]
)
_LIFE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600, 14400, 86400)
_WAIT = Histogram("phjob_wait_seconds", "From a job's creation to Preparing", ["group"], buckets=_LIFE)
_START = Histogram("phjob_start_seconds", "From Preparing to the container's start", buckets=_LIFE[:10])
_RUN = Histogram("phjob_run_seconds", "From the container's start to its end", ["group"], buckets=_LIFE)
_CANCEL = Histogram(
    "phjob_cancel_seconds",
    "From a cancel that was seen to Cancelled",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
_REFUSED = Counter(
    "phjob_pod_manager_writes_refused", "Writes that came too late, by what they were", ["what"]
)
_REPEATED = Counter("phjob_pod_manager_requests_repeated", "Requests without a definite answer", ["what"])
_IGNORED = Counter("phjob_pod_manager_orders_ignored", "Orders not obeyed, by kind and why", ["kind", "why"])
_EVENTS_DROPPED = Counter(
    "phjob_pod_manager_events_dropped", "Kubernetes Events not written, by why", ["why"]
)
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


def transition(group: str, phase: str, reason: str) -> None:
    """A job's phase was written."""
    _TRANSITIONS.labels(group, phase, reason).inc()


def waited(group: str, time: timedelta) -> None:
    """A job was admitted."""
    _WAIT.labels(group).observe(time.total_seconds())


def started(time: timedelta) -> None:
    """A job's container has started."""
    _START.observe(time.total_seconds())


def ran(group: str, time: timedelta) -> None:
    """A job's container has ended."""
    _RUN.labels(group).observe(time.total_seconds())


def cancelled(time: timedelta) -> None:
    """A job was cancelled."""
    _CANCEL.observe(time.total_seconds())


def refused(what: str) -> None:
    """A compare-and-swap failed: the job had moved on."""
    _REFUSED.labels(what).inc()


def repeated(what: str) -> None:
    """A request had no definite answer and is made again."""
    _REPEATED.labels(what).inc()


def ignored(kind: str, why: str) -> None:
    """An order was not obeyed."""
    _IGNORED.labels(kind, why).inc()


def event_dropped(why: str) -> None:
    """A Kubernetes Event could not be written; nothing depends on it."""
    _EVENTS_DROPPED.labels(why).inc()


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
