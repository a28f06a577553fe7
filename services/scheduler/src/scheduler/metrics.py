"""The scheduler's own metrics, called by the name of what happened."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from scheduler.admission import Admission

_ORDERS = Counter("phjob_scheduler_orders", "Orders given to pod-manager, by kind", ["kind"])
_UNSEEN = Counter("phjob_scheduler_admissions_unseen", "Admissions not seen to come true within a minute")
_UNEXPECTED = Gauge(
    "phjob_scheduler_admissions_unexpected",
    "Jobs seen Preparing that this session did not admit",
)
_WAITING = Gauge("phjob_scheduler_jobs_waiting", "Jobs that may go as soon as there is room")


def ordered(kind: str) -> None:
    """An order was given."""
    _ORDERS.labels(kind).inc()


def unseen(count: int) -> None:
    """Admissions were ordered and not seen in time."""
    _UNSEEN.inc(count)


def observe(admission: Callable[[], Admission]) -> None:
    """Read these from the current session whenever they are scraped."""
    _UNEXPECTED.set_function(lambda: admission().unexpected)
    _WAITING.set_function(lambda: sum(len(queue.jobs) for queue in list(admission().groups.values())))
