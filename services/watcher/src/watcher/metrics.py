"""The watcher's own metrics, called by the name of what happened."""

from prometheus_client import Counter, Gauge

_TOLD = Counter("phjob_watcher_facts", "Facts told, by kind", ["kind"])
_RELISTED = Counter("phjob_watcher_relists", "Lists made because a watch expired", ["resource"])
_SKIPPED = Counter("phjob_watcher_objects_skipped", "Objects that make no sense", ["resource"])
_SNAPSHOTS = Counter("phjob_watcher_snapshots", "Snapshots told, by queue", ["queue"])
_LEADING = Gauge("phjob_watcher_leading", "1 while this replica holds the Lease")


def told(kind: str) -> None:
    """A fact was told to those whom it concerns."""
    _TOLD.labels(kind).inc()


def relisted(resource: str) -> None:
    """A watch expired."""
    _RELISTED.labels(resource).inc()


def skipped(resource: str) -> None:
    """An object could not be translated."""
    _SKIPPED.labels(resource).inc()


def snapshot(queue: str) -> None:
    """A snapshot was told."""
    _SNAPSHOTS.labels(queue).inc()


def leading(leads: bool) -> None:  # noqa: FBT001 - a gauge's value
    """This replica became, or ceased to be, the one that tells."""
    _LEADING.set(1 if leads else 0)
