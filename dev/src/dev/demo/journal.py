"""What became of each PhJob, as the API server's own watch tells it: every state, in its true order.

Every check of the demo is made on this record; nothing of PhJob's own logs or code goes into it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from dev.cluster import NAMESPACE
from dev.demo.follow import Follow, events

WATCH = ("get", "--raw", f"/apis/primehub.io/v1alpha1/namespaces/{NAMESPACE}/phjobs?watch=true")
FINAL = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True)
class Seen:
    """A PhJob as it was between two changes."""

    name: str
    user: str
    instance_type: str
    phase: str
    reason: str
    message: str
    requeued: int
    created: str
    preparing_time: str
    revision: int
    """The change that brought it about: all changes of all objects are numbered in one row."""

    @classmethod
    def of(cls, phjob: dict[str, Any]) -> Self:
        """From the API's object."""
        metadata, spec, status = phjob["metadata"], phjob["spec"], phjob["status"]
        return cls(
            name=metadata["name"],
            user=spec["userName"],
            instance_type=spec["instanceType"],
            phase=status["phase"],
            reason=status["reason"],
            message=status.get("message", ""),
            requeued=status["requeued"],
            created=metadata["creationTimestamp"],
            preparing_time=status.get("preparingTime", ""),
            revision=int(metadata["resourceVersion"]),
        )


class Journal:
    """The record so far."""

    def __init__(self, watch: Follow) -> None:
        """Of this watch, which must be on before the first job is created."""
        self._watch = watch
        self._seen: list[Seen] = []

    def read(self) -> None:
        """Take in what has come."""
        for event in events(self._watch):
            if event["type"] != "DELETED":
                self._seen.append(Seen.of(event["object"]))

    def history(self, name: str) -> list[Seen]:
        """All that happened to the job of this name, in order."""
        return [seen for seen in self._seen if seen.name == name]

    def last(self, name: str) -> Seen | None:
        """How the job is now; None before it was seen."""
        history = self.history(name)
        return history[-1] if history else None

    def is_in(self, name: str, *phases: str) -> bool:
        """Whether the job is in one of these phases now."""
        last = self.last(name)
        return last is not None and last.phase in phases

    def entered(self, name: str, phase: str) -> Seen | None:
        """The job as it first was in that phase; None if it never was."""
        return next((seen for seen in self.history(name) if seen.phase == phase), None)


def phases(history: Iterable[Seen]) -> list[str]:
    """One after the other."""
    found: list[str] = []
    for seen in history:
        if found[-1:] != [seen.phase]:
            found.append(seen.phase)
    return found


def trail(history: Iterable[Seen]) -> str:
    """The phases for the reader: `Pending -> Preparing`."""
    return " -> ".join(phases(history))
