"""The page of the metrics, made from the metrics module of each service."""

from collections.abc import Iterator
from types import ModuleType

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import phjob_janitor.metrics
import phjob_pod_manager.metrics
import phjob_runtime.metrics
import phjob_scheduler.metrics
import phjob_watcher.metrics
from dev.docs.markdown import code, prose, table

_SERVICES = {
    "All services": phjob_runtime.metrics,
    "watcher": phjob_watcher.metrics,
    "scheduler": phjob_scheduler.metrics,
    "pod-manager": phjob_pod_manager.metrics,
    "janitor": phjob_janitor.metrics,
}

_PAGE = """\
# Metrics

For operators: the metrics that each service exposes at `/metrics`. [Monitor](../operate.md#monitor)
describes the dashboards and alerts that use them.

`make docs` generates this page from the `metrics.py` of each service. The names are stable
([spec, E3](../spec.md#e3)). No label holds the name of a job, so that the number of series stays
small. Each service also exposes the usual `process_*` and `python_*` metrics of its process.

{services}
"""


def page() -> str:
    """Return the whole page."""
    sections = [f"## {name}\n\n{_metrics(module)}" for name, module in _SERVICES.items()]
    return _PAGE.format(services="\n\n".join(sections))


def _metrics(module: ModuleType) -> str:
    rows = sorted(row for value in vars(module).values() for row in _rows(value))
    return table(["Metric", "Type", "Labels", "Meaning"], rows)


def _rows(value: object) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of a metric, or of a collector that makes metrics at a scrape."""
    if isinstance(value, type | CollectorRegistry) or not hasattr(value, "collect"):
        return
    labels = getattr(value, "_labelnames", ())
    for family in value.describe() if isinstance(value, MetricWrapperBase) else value.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = ", ".join(code(label) for label in labels or getattr(family, "_labelnames", ()))
        yield code(name), family.type, names, prose(family.documentation)
