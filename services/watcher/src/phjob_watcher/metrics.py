"""The watcher's own metrics, as functions that are named after the event."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from phjob_core.quantities import Amounts, base_units

_FACTS = Counter("phjob_watcher_facts", "Facts published, by kind", ["kind"])
_EXPIRED = Counter("phjob_watcher_watches_expired", "Watches with a gap, by resource", ["resource"])
_SKIPPED = Counter(
    "phjob_watcher_objects_skipped", "Objects skipped because of a parse error, by resource", ["resource"]
)
_SNAPSHOTS = Counter("phjob_watcher_snapshots", "Snapshots published, by queue", ["queue"])

PodUsage = Callable[[], Mapping[str, Amounts]]
"""Returns the limits of the unfinished pods of each group. Called in another thread."""


def fact_published(kind: str) -> None:
    """Count a published fact, once for all of its recipients."""
    _FACTS.labels(kind).inc()


def watch_expired(resource: str) -> None:
    """Count a watch that missed changes."""
    _EXPIRED.labels(resource).inc()


def object_skipped(resource: str) -> None:
    """Count an object that could not be parsed."""
    _SKIPPED.labels(resource).inc()


def snapshot_published(queue: str) -> None:
    """Count a published snapshot."""
    _SNAPSHOTS.labels(queue).inc()


class _PodUsageCollector(Collector):
    """The usage of the pods of each group, summed up at each scrape."""

    def __init__(self) -> None:
        self.pod_usage: PodUsage = dict

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, for prometheus_client."""
        family = GaugeMetricFamily(
            "phjob_pod_usage",
            "Limits of a group's unfinished pods, as counted by the watcher, in cores, bytes or devices",
            labels=["group", "resource"],
        )
        for group, amounts in self.pod_usage().items():
            for resource, amount in amounts.items():
                family.add_metric([group, resource], base_units(resource, amount))
        yield family


_POD_USAGE = _PodUsageCollector()
REGISTRY.register(_POD_USAGE)


@contextmanager
def exporting_pod_usage(pod_usage: PodUsage) -> Iterator[None]:
    """Export the usage of the pods while the context lasts, on the active replica."""
    _POD_USAGE.pod_usage = pod_usage
    try:
        yield
    finally:
        _POD_USAGE.pod_usage = dict
