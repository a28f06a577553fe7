"""The metrics that every service has. Those of one service are in its own `metrics`.

No other module of `phjob_runtime` imports prometheus_client, except `readiness`, which serves the metrics.
No label contains a job's name.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram

from phjob_core.groups import UNKNOWN_GROUP
from phjob_core.stream import Envelope
from phjob_runtime.amqp.topology import SERVICES

_RECEIVED = Counter(
    "phjob_messages_received", "Messages received, by publisher and kind", ["publisher", "kind"]
)
_REDELIVERED = Counter("phjob_messages_redelivered", "Redelivered messages, by publisher", ["publisher"])
_HANDLER_FAILURES = Counter("phjob_handler_failures", "Failures to process a message, by kind", ["kind"])
_HANDLER_SECONDS = Histogram(
    "phjob_handler_duration_seconds",
    "Processing time of a message in seconds, decisions included, their effects excluded",
    ["kind"],
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5),
)
_DEAD_LETTERED = Counter(
    "phjob_messages_dead_lettered", "Messages moved to phjob.dead, by their original queue", ["queue"]
)
_REJECTED = Counter(
    "phjob_messages_rejected", "Messages rejected by RabbitMQ because of a full queue, by queue", ["queue"]
)
_OUTBOX = Gauge("phjob_outbox_messages", "Messages sent and not yet confirmed by RabbitMQ")
_ACTIVE = Gauge("phjob_active", "State of this replica for the queue: 1 active, 0 standby", ["queue"])
_HEARTBEAT = Gauge(
    "phjob_heartbeat_timestamp_seconds",
    "Unix time at which the watcher sent the last heartbeat that this service has processed",
    ["queue"],
)
_RESYNCS = Counter("phjob_resyncs", "Snapshot requests, by reason", ["reason"])
_API_REQUESTS = Counter(
    "phjob_api_requests",
    "Requests to the Kubernetes API, by verb, resource and HTTP status (0: no answer)",
    ["verb", "resource", "code"],
)
_API_SECONDS = Histogram(
    "phjob_api_request_duration_seconds",
    "Response time of the Kubernetes API in seconds, by verb and resource",
    ["verb", "resource"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_WORKER_FAILURES = Counter("phjob_worker_failures", "Unexpected errors in a worker of a keyed work queue")
_CONNECTED = Gauge("phjob_broker_connected", "Connection to RabbitMQ: 1 connected, 0 not connected")


class GroupLabels:
    """The values of the label `group` of a service's own metrics: the group names of the PhGroups.

    Users invent group names. They all count as `UNKNOWN_GROUP`, because a series lasts as long as the
    process.
    """

    def __init__(self, *metrics: Counter | Histogram) -> None:
        """`metrics` are those that have the label."""
        self._metrics = metrics
        self._groups: set[str] = set()

    def of(self, group: str) -> str:
        """Return the label's value for a group name."""
        return group if group in self._groups else UNKNOWN_GROUP

    def set_groups(self, groups: Iterable[str]) -> None:
        """Set the group names of all PhGroups. End the series of those that are gone."""
        before, self._groups = self._groups, set(groups)
        for group in before - self._groups - {UNKNOWN_GROUP}:
            for metric in self._metrics:
                metric.remove_by_labels({"group": group})


def message_received(envelope: Envelope) -> None:
    """Count a received message."""
    publisher = envelope.publisher if envelope.publisher in SERVICES else "other"
    _RECEIVED.labels(publisher, _kind(envelope)).inc()
    if envelope.redelivered:
        _REDELIVERED.labels(publisher).inc()


def handler_failed(envelope: Envelope) -> None:
    """Count a message that its handler could not process."""
    _HANDLER_FAILURES.labels(_kind(envelope)).inc()


@contextmanager
def time_handler(envelope: Envelope) -> Iterator[None]:
    """Measure the time in the context as the processing time of the message."""
    started = perf_counter()
    try:
        yield
    finally:
        _HANDLER_SECONDS.labels(_kind(envelope)).observe(perf_counter() - started)


def consuming(queue: str) -> None:
    """Start the queue's counter of dead letters at 0.

    Without this, the first would not be an increase.
    """
    _DEAD_LETTERED.labels(queue)


def message_dead_lettered(queue: str) -> None:
    """Count a message of the queue that becomes a dead letter."""
    _DEAD_LETTERED.labels(queue).inc()


def messages_rejected(queue: str, count: int) -> None:
    """Count messages that RabbitMQ rejected because the queue is full."""
    _REJECTED.labels(queue).inc(count)


def observe_outbox(count: Callable[[], int]) -> None:
    """Call `count` at each scrape for the number of unconfirmed messages."""
    _OUTBOX.set_function(count)


def set_active(queue: str) -> None:
    """Record that this replica is the queue's active one."""
    _ACTIVE.labels(queue).set(1)


def set_standby(queue: str) -> None:
    """Record that this replica is on standby for the queue."""
    _ACTIVE.labels(queue).set(0)


def heartbeat_processed(queue: str, sent: datetime) -> None:
    """Record when the watcher sent the heartbeat that was just processed."""
    _HEARTBEAT.labels(queue).set(sent.timestamp())


def snapshot_requested(reason: str) -> None:
    """Count a request for a snapshot."""
    _RESYNCS.labels(reason).inc()


def api_request(verb: str, resource: str, code: int, seconds: float) -> None:
    """Record a request to the API server; code 0: there was no answer."""
    _API_REQUESTS.labels(verb, resource, str(code)).inc()
    _API_SECONDS.labels(verb, resource).observe(seconds)


def worker_failed() -> None:
    """Count an unexpected error in a worker of a keyed work queue."""
    _WORKER_FAILURES.inc()


def broker_connected() -> None:
    """Record that the service is connected to RabbitMQ."""
    _CONNECTED.set(1)


def broker_disconnected() -> None:
    """Record that the service is not connected to RabbitMQ."""
    _CONNECTED.set(0)


def _kind(envelope: Envelope) -> str:
    return envelope.message.kind if envelope.message else "undecodable"
