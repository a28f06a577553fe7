"""The metrics of the services, read from /metrics."""

import urllib.request
from collections.abc import Collection
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dev.paths import StackPaths


def samples(state: Path, service: str, name: str) -> dict[tuple[str, ...], float]:
    """Return a service's samples of a metric, by their label values.

    The values are in alphabetical order of the labels.
    """
    return samples_at(f"{StackPaths(state).url(service, 'http')}/metrics", name)


def samples_at(url: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric at the URL, as `samples` does."""
    exposed = exposed_at(url)
    # RabbitMQ also exposes values that are not numbers, such as 'NaN' in quotes, in the first seconds.
    lines = "".join(line for line in exposed.splitlines(keepends=True) if line.startswith(name))
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(lines)
        for sample in family.samples
        if sample.name == name
    }


def exposed_at(url: str) -> str:
    """Return everything that is exposed at the URL."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
        text: str = response.read().decode()
    return text


def count_api_requests(state: Path, resources: Collection[str], verbs: Collection[str]) -> float:
    """Return how many requests with these resources and verbs pod-manager has sent."""
    requests = samples(state, "pod-manager", "phjob_api_requests_total")
    return sum(
        count for (_, resource, verb), count in requests.items() if resource in resources and verb in verbs
    )


def active_replicas(state: Path, service: str) -> list[str]:
    """Return the names of the active replicas of a service with up to two."""
    names = (service, f"{service}-2")
    return [name for name in names if any(samples(state, name, "phjob_active").values())]
