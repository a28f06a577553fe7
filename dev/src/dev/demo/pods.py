"""What the jobs' pods held at any time, as the API server's own watch tells it.

A pod holds its limits from its creation until it has finished or is gone: that is what quotas are
about. A PhJob's phase says it a moment later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from dev.cluster import NAMESPACE
from dev.demo.follow import Follow, events

WATCH = ("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods?watch=true")
FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Change:
    """A pod as it became."""

    name: str
    """Its job's."""
    gpus: int
    """How many it holds from then on."""
    over: bool
    """Whether it has finished or is gone."""
    revision: int

    @classmethod
    def of(cls, event: dict[str, Any]) -> Self:
        """From the watch."""
        pod = event["object"]
        metadata = pod["metadata"]
        over = event["type"] == "DELETED" or pod["status"].get("phase") in FINISHED
        return cls(
            name=metadata["name"],
            gpus=0 if over else _gpus(pod["spec"]),
            over=over,
            revision=int(metadata["resourceVersion"]),
        )


class Pods:
    """The record so far."""

    def __init__(self, watch: Follow) -> None:
        """Of this watch, which must be on before the first pod is created."""
        self._watch = watch
        self._changes: list[Change] = []

    def first_end(self, jobs: Collection[str]) -> int | None:
        """The revision in which the first of these jobs' pods ended; None if none has."""
        return next((change.revision for change in self._of(jobs) if change.over), None)

    def peak(self, jobs: Collection[str]) -> int:
        """The most GPUs that the pods of these jobs held at one time."""
        held: dict[str, int] = {}
        peak = 0
        for change in self._of(jobs):
            held[change.name] = change.gpus
            peak = max(peak, sum(held.values()))
        return peak

    def _of(self, jobs: Collection[str]) -> list[Change]:
        """Their changes until now, in order."""
        self._changes += map(Change.of, events(self._watch))
        return [change for change in self._changes if change.name in jobs]


def _gpus(spec: dict[str, Any]) -> int:
    limits = [container.get("resources", {}).get("limits", {}) for container in spec["containers"]]
    return sum(int(number) for each in limits for name, number in each.items() if name.endswith("/gpu"))
