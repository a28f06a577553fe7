"""What a service says of itself at /metrics."""

import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dev.site import Site


def samples(state: Path, service: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels in alphabetical order of the labels."""
    return samples_of(f"{Site(state).url(service, 'http')}/metrics", name)


def samples_of(url: str, name: str) -> dict[tuple[str, ...], float]:
    """The same of what is exposed at the URL."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def writes(state: Path) -> float:
    """How many writes of jobs and pods pod-manager has asked the API server for."""
    requests = samples(state, "pod-manager", "phjob_api_requests_total")
    return sum(
        count
        for (_, resource, verb), count in requests.items()
        if resource in ("phjobs", "pods") and verb in ("POST", "PATCH", "PUT", "DELETE")
    )


def active(state: Path, service: str) -> list[str]:
    """The names of those of two replicas of a service that say that they do its work."""
    names = (service, f"{service}-2")
    return [name for name in names if any(samples(state, name, "phjob_active").values())]
