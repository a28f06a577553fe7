"""The metrics of pod-manager. Each function records one event, and is named after it."""

from collections.abc import Iterable
from datetime import timedelta

from prometheus_client import Counter, Gauge, Histogram

from phjob_runtime.metrics import GroupLabels

_TRANSITIONS = Counter(
    "phjob_transitions",
    "Transitions written to jobs, by the phase and reason that were written",
    ["group", "phase", "reason"],
)
_LIFE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600, 14400, 86400)
_WAIT = Histogram(
    "phjob_wait_seconds", "Seconds from a job's creation to its admission", ["group"], buckets=_LIFE
)
_START = Histogram(
    "phjob_start_seconds", "Seconds from a job's admission to its container's start", buckets=_LIFE[:10]
)
_RUN = Histogram("phjob_run_seconds", "Seconds from a container's start to its end", ["group"], buckets=_LIFE)
_LABELS = GroupLabels(_TRANSITIONS, _WAIT, _RUN)
_CANCEL = Histogram(
    "phjob_cancel_seconds",
    "Seconds from the observation of a cancel to the phase Cancelled",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
_WRITES_REJECTED = Counter(
    "phjob_pod_manager_writes_rejected",
    "Status writes that the API server rejected, most often because the job had changed",
    ["operation"],
)
_REQUESTS_RETRIED = Counter(
    "phjob_pod_manager_requests_retried",
    "Attempts of requests to the API server that had no definite answer",
    ["operation"],
)
_COMMANDS_IGNORED = Counter(
    "phjob_pod_manager_commands_ignored", "Scheduler commands that were not executed", ["kind", "reason"]
)
_EVENTS_DROPPED = Counter(
    "phjob_pod_manager_events_dropped", "Kubernetes Events about jobs that were not written", ["reason"]
)
_LOGS_STORED = Counter("phjob_log_archive_stored", "Logs stored in the archive")
_LOG_BYTES = Counter("phjob_log_archive_bytes", "Bytes of logs stored in the archive")
_LOG_SECONDS = Histogram(
    "phjob_log_archive_duration_seconds",
    "Seconds to store one log in the archive",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
_LOG_FAILURES = Counter("phjob_log_archive_failures", "Failed attempts to store a log in the archive")
_LOGS_WAITING = Gauge("phjob_log_archive_waiting", "Logs that wait for the next attempt to store them")
_LOGS_LOST = Counter("phjob_log_archive_lost", "Pods deleted before their log was stored in the archive")


def groups_changed(groups: Iterable[str]) -> None:
    """Set the group names of all PhGroups, because they may have changed."""
    _LABELS.set_groups(groups)


def transition_written(group: str, phase: str, reason: str) -> None:
    """Count a transition written to a job."""
    _TRANSITIONS.labels(_LABELS.of(group), phase, reason).inc()


def job_admitted(group: str, wait: timedelta) -> None:
    """Observe the time from a job's creation to its admission."""
    _WAIT.labels(_LABELS.of(group)).observe(wait.total_seconds())


def container_started(time: timedelta) -> None:
    """Observe the time from a job's admission to its container's start."""
    _START.observe(time.total_seconds())


def container_ended(group: str, time: timedelta) -> None:
    """Observe the time from a container's start to its end."""
    _RUN.labels(_LABELS.of(group)).observe(time.total_seconds())


def job_cancelled(time: timedelta) -> None:
    """Observe the time from the observation of a cancel to the write of Cancelled."""
    _CANCEL.observe(time.total_seconds())


def write_rejected(operation: str) -> None:
    """Count a status write that the API server has rejected."""
    _WRITES_REJECTED.labels(operation).inc()


def request_retried(operation: str) -> None:
    """Count an attempt that had no definite answer."""
    _REQUESTS_RETRIED.labels(operation).inc()


def command_ignored(kind: str, reason: str) -> None:
    """Count a scheduler command that is not executed."""
    _COMMANDS_IGNORED.labels(kind, reason).inc()


def event_dropped(reason: str) -> None:
    """Count a Kubernetes Event that is not written."""
    _EVENTS_DROPPED.labels(reason).inc()


def log_stored(size: int, seconds: float) -> None:
    """Count a stored log of `size` bytes, and observe the time that it took."""
    _LOGS_STORED.inc()
    _LOG_BYTES.inc(size)
    _LOG_SECONDS.observe(seconds)


def log_failed() -> None:
    """Count a failed attempt to store a log."""
    _LOG_FAILURES.inc()


def logs_waiting(count: int) -> None:
    """Set the number of logs that wait for the next attempt."""
    _LOGS_WAITING.set(count)


def log_lost() -> None:
    """Count a pod that is deleted before its log was stored."""
    _LOGS_LOST.inc()
