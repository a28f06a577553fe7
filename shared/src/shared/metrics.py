"""The metrics that every service has. A service's own are in its `metrics`.

Names, labels and meaning stand here once; nobody else speaks to prometheus_client. No label ever
holds a job's name.
"""

from prometheus_client import Counter, Gauge, Histogram

from shared.session import Envelope

_RECEIVED = Counter("phjob_messages_received", "Messages received, by kind", ["publisher", "kind"])
_REDELIVERED = Counter("phjob_messages_redelivered", "Messages received again", ["publisher"])
_HANDLER_FAILED = Counter("phjob_handler_failures", "Messages whose handling failed", ["kind"])
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
    _RECEIVED.labels(envelope.publisher.partition("@")[0], _kind(envelope)).inc()
    if envelope.redelivered:
        _REDELIVERED.labels(envelope.publisher.partition("@")[0]).inc()


def handler_failed(envelope: Envelope) -> None:
    """A message could not be handled and went to the dead-letter queue."""
    _HANDLER_FAILED.labels(_kind(envelope)).inc()


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
