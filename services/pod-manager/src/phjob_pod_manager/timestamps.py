"""Times in Kubernetes' format. Pure."""

from datetime import UTC, datetime


def rfc3339(time: datetime) -> str:
    """Return the time in Kubernetes' format, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
