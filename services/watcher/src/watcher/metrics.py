"""The watcher's own metrics, called by the name of what happened."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.resources import Amounts, base_units

_TOLD = Counter("phjob_watcher_facts", "Facts told, by kind", ["kind"])
_EXPIRED = Counter("phjob_watcher_watches_expired", "Watches that missed changes", ["resource"])
_SKIPPED = Counter("phjob_watcher_objects_skipped", "Objects that make no sense", ["resource"])
_SNAPSHOTS = Counter("phjob_watcher_snapshots", "Snapshots told, by queue", ["queue"])


def told(kind: str) -> None:
    """A fact was told to those whom it concerns."""
    _TOLD.labels(kind).inc()


def expired(resource: str) -> None:
    """A watch missed changes."""
    _EXPIRED.labels(resource).inc()


def skipped(resource: str) -> None:
    """An object could not be translated."""
    _SKIPPED.labels(resource).inc()


def snapshot(queue: str) -> None:
    """A snapshot was told."""
    _SNAPSHOTS.labels(queue).inc()


class _Held(Collector):
    """What the pods of each group hold, counted whenever it is scraped, while this replica leads."""

    def __init__(self) -> None:
        self.held: Callable[[], Mapping[str, Amounts]] = dict

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        family = GaugeMetricFamily(
            "phjob_pods_held",
            "Limits of the unfinished pods of a group, counted by the watcher: cores, bytes, devices",
            labels=["group", "resource"],
        )
        for group, amounts in self.held().items():
            for resource, amount in amounts.items():
                family.add_metric([group, resource], base_units(resource, amount))
        yield family


_HELD = _Held()
REGISTRY.register(_HELD)


@contextmanager
def counting(held: Callable[[], Mapping[str, Amounts]]) -> Iterator[None]:
    """Tell what pods hold while this replica leads."""
    _HELD.held = held
    try:
        yield
    finally:
        _HELD.held = dict
