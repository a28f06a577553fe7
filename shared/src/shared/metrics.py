"""The metrics that every service has. A service's own are in its `metrics`.

Names, labels and meaning stand here once; nobody else speaks to prometheus_client. No label ever
holds a job's name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram

from shared.session import Envelope
from shared.topology import SERVICES

_RECEIVED = Counter("phjob_messages_received", "Messages received, by kind", ["publisher", "kind"])
_REDELIVERED = Counter("phjob_messages_redelivered", "Messages received again", ["publisher"])
_HANDLER_FAILED = Counter("phjob_handler_failures", "Messages whose handling failed", ["kind"])
_HANDLER_SECONDS = Histogram(
    "phjob_handler_duration_seconds",
    "How long the handling of a message took, its decisions included, its effects not",
    ["kind"],
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5),
)
_BURIED = Counter(
    "phjob_messages_buried", "Messages moved to phjob.dead, by the queue they were in", ["queue"]
)
_NOT_TAKEN = Counter(
    "phjob_messages_refused", "Messages that RabbitMQ refused because their queue is full", ["queue"]
)
_OUTBOX = Gauge("phjob_outbox_messages", "Messages that wait until RabbitMQ takes them")
_ACTIVE = Gauge(
    "phjob_active", "1 while this replica reads the queue and acts, 0 while it stands by", ["queue"]
)
_HEARTBEAT = Gauge(
    "phjob_heartbeat_timestamp_seconds",
    "When the watcher sent its last heartbeat that was handled",
    ["queue"],
)
_SESSIONS = Counter("phjob_sessions", "Snapshots asked for, by reason", ["reason"])
_API_REQUESTS = Counter("phjob_api_requests", "Requests to the Kubernetes API", ["verb", "resource", "code"])
_API_SECONDS = Histogram(
    "phjob_api_request_duration_seconds",
    "How long the Kubernetes API took",
    ["verb", "resource"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_CONNECTED = Gauge("phjob_broker_connected", "1 while RabbitMQ is connected")


def received(envelope: Envelope) -> None:
    """A message came in."""
    name = envelope.publisher.partition("@")[0]
    publisher = name if name in SERVICES else "other"
    _RECEIVED.labels(publisher, _kind(envelope)).inc()
    if envelope.redelivered:
        _REDELIVERED.labels(publisher).inc()


def handler_failed(envelope: Envelope) -> None:
    """A message could not be handled and went to the dead-letter queue."""
    _HANDLER_FAILED.labels(_kind(envelope)).inc()


@contextmanager
def handling(envelope: Envelope) -> Iterator[None]:
    """A message is being handled."""
    started = perf_counter()
    try:
        yield
    finally:
        _HANDLER_SECONDS.labels(_kind(envelope)).observe(perf_counter() - started)


def reading(queue: str) -> None:
    """The queue is read from now on: its counters begin at zero, so that a first event is an increase."""
    _BURIED.labels(queue)


def buried(queue: str) -> None:
    """A message went to the dead-letter queue."""
    _BURIED.labels(queue).inc()


def not_taken(queue: str, count: int) -> None:
    """RabbitMQ refused so many messages: their queue is full."""
    _NOT_TAKEN.labels(queue).inc(count)


def outbox(count: Callable[[], int]) -> None:
    """How many messages wait, counted when somebody asks."""
    _OUTBOX.set_function(count)


def active(queue: str, is_active: bool) -> None:  # noqa: FBT001 - a gauge's value
    """This replica does the work of the queue, or does not."""
    _ACTIVE.labels(queue).set(1 if is_active else 0)


def heartbeat(queue: str, sent: datetime) -> None:
    """The watcher's stream to the queue is handled up to what was sent then."""
    _HEARTBEAT.labels(queue).set(sent.timestamp())


def session_asked(reason: str) -> None:
    """A consumer dropped its state and asked for a snapshot."""
    _SESSIONS.labels(reason).inc()


def api_request(verb: str, resource: str, code: int, seconds: float) -> None:
    """The API server answered; code 0: it did not."""
    _API_REQUESTS.labels(verb, resource, str(code)).inc()
    _API_SECONDS.labels(verb, resource).observe(seconds)


def broker_connected(connected: bool) -> None:  # noqa: FBT001 - a gauge's value
    """The connection to RabbitMQ came or went."""
    _CONNECTED.set(1 if connected else 0)


def _kind(envelope: Envelope) -> str:
    return type(envelope.message).__name__ if envelope.message else "undecodable"
