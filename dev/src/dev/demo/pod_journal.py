"""The journal of pods: the GPUs that each pod of a job uses, from a watch of the API server.

A pod uses its limits from its creation until it has finished or is deleted. The quotas limit exactly that.
The phase of its PhJob changes a moment later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from dev.cluster import NAMESPACE
from dev.demo.background_command import BackgroundCommand, watch_events

WATCH = ("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods?watch=true")
FINISHED_PHASES = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class PodChange:
    """A change of a pod."""

    name: str
    """The name of the pod, which is also that of its job."""
    gpus: int
    """The number of GPUs that the pod uses after the change."""
    is_over: bool
    """True if the pod has finished or is deleted."""
    revision: int

    @classmethod
    def of(cls, event: dict[str, Any]) -> Self:
        """Return the change of an event of the watch."""
        pod = event["object"]
        metadata = pod["metadata"]
        is_over = event["type"] == "DELETED" or pod["status"].get("phase") in FINISHED_PHASES
        return cls(
            name=metadata["name"],
            gpus=0 if is_over else _gpus(pod["spec"]),
            is_over=is_over,
            revision=int(metadata["resourceVersion"]),
        )


class PodJournal:
    """All changes of all pods so far."""

    def __init__(self, watch: BackgroundCommand) -> None:
        """Read from this watch, which must run before the first pod is created."""
        self._watch = watch
        self._changes: list[PodChange] = []

    def first_end(self, jobs: Collection[str]) -> int | None:
        """Return the revision at which the first pod of these jobs ended, or None."""
        return next((change.revision for change in self._changes_of(jobs) if change.is_over), None)

    def peak_gpus(self, jobs: Collection[str]) -> int:
        """Return the largest number of GPUs that these jobs' pods used at a time."""
        used: dict[str, int] = {}
        peak = 0
        for change in self._changes_of(jobs):
            used[change.name] = change.gpus
            peak = max(peak, sum(used.values()))
        return peak

    def _changes_of(self, jobs: Collection[str]) -> list[PodChange]:
        """Return the changes of these jobs' pods so far, in order."""
        self._changes += map(PodChange.of, watch_events(self._watch))
        return [change for change in self._changes if change.name in jobs]


def _gpus(spec: dict[str, Any]) -> int:
    limits = [container.get("resources", {}).get("limits", {}) for container in spec["containers"]]
    return sum(int(number) for each in limits for name, number in each.items() if name.endswith("/gpu"))
