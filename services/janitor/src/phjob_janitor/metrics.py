"""The janitor's own metrics, as functions that are named after the event."""

from prometheus_client import Counter

_COMMANDS = Counter("phjob_janitor_commands", "Commands sent to pod-manager, by kind", ["kind"])


def command_sent(kind: str) -> None:
    """Count a command that was sent."""
    _COMMANDS.labels(kind).inc()
