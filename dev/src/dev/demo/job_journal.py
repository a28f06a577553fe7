"""The journal of jobs: every state of each PhJob in its true order, from a watch of the API server.

The demo checks its claims on this journal, independently of PhJob's logs and code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from dev.cluster import NAMESPACE
from dev.demo.background_command import BackgroundCommand, watch_events

WATCH = ("get", "--raw", f"/apis/primehub.io/v1alpha1/namespaces/{NAMESPACE}/phjobs?watch=true")
FINAL_PHASES = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True)
class JobState:
    """The state of a PhJob between two changes."""

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
    """The resourceVersion, which orders the changes of all objects."""

    @classmethod
    def of(cls, phjob: dict[str, Any]) -> Self:
        """Return the state of a PhJob, as the API server sends it."""
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


class JobJournal:
    """All states of all jobs so far."""

    def __init__(self, watch: BackgroundCommand) -> None:
        """Read from this watch, which must run before the first job is created."""
        self._watch = watch
        self._states: list[JobState] = []

    def read(self) -> None:
        """Add the new events of the watch."""
        for event in watch_events(self._watch):
            if event["type"] != "DELETED":
                self._states.append(JobState.of(event["object"]))

    def states_of(self, name: str) -> list[JobState]:
        """Return all states of the job of this name, in order."""
        return [state for state in self._states if state.name == name]

    def latest(self, name: str) -> JobState | None:
        """Return the latest state of the job; None if there is none yet."""
        states = self.states_of(name)
        return states[-1] if states else None

    def is_in_phase(self, name: str, *phases: str) -> bool:
        """Return whether the job is in one of these phases now."""
        latest = self.latest(name)
        return latest is not None and latest.phase in phases

    def first_in_phase(self, name: str, phase: str) -> JobState | None:
        """Return the first state of the job in that phase; None if it never was in it."""
        return next((state for state in self.states_of(name) if state.phase == phase), None)


def phases_of(states: Iterable[JobState]) -> list[str]:
    """Return the phases in order, each once in a row."""
    phases: list[str] = []
    for state in states:
        if phases[-1:] != [state.phase]:
            phases.append(state.phase)
    return phases


def format_phases(states: Iterable[JobState]) -> str:
    """Return the phases as text: `Pending -> Preparing`."""
    return " -> ".join(phases_of(states))
