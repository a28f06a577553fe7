"""Kubernetes Events about jobs and gated pods, for `kubectl describe` (spec.md, E2, Q14).

There is one Event for each object and reason, which counts its occurrences. No decision depends on Events.
One that cannot be written is dropped and counted, so that Events delay neither jobs nor the API server.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import structlog

from phjob_core.api import API_VERSION, Object, Reason
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.resource import Resource
from phjob_kube.port import Kube
from phjob_pod_manager import metrics
from phjob_pod_manager.status_patches import readable
from phjob_pod_manager.timestamps import rfc3339
from phjob_runtime.clock import Clock
from phjob_runtime.keyed_queue import KeyedWorkQueue

EVENTS = Resource("events")
EVENT_REASONS = frozenset(
    {
        Reason.REQUEUED, Reason.RETRIED, Reason.OVER_REQUEUE_LIMIT, Reason.OVER_ACTIVE_DEADLINE,
        Reason.NODE_LOST, Reason.POD_CREATION_FAILED, Reason.POD_DELETED, Reason.OVER_QUOTA,
        Reason.INVALID_SPEC,
    }
)  # fmt: skip
"""The reasons of a job that get an Event. A failed command gets none: its reason is the user's own."""
POD_WARNINGS = frozenset({Reason.OVER_QUOTA, Reason.INVALID_SPEC})
"""The reasons of a gated pod that do not go away by themselves."""
MAX_CONCURRENT_WRITES = 2
MAX_WAITING_EVENTS = 500
"""The number of Events that may wait to be written. Further ones are dropped."""

_MAX_MESSAGE_CHARS = 1024
"""The API server's bound on the message of an Event."""
_COMPONENT = "phjob"

_log = structlog.get_logger()


class Subject(NamedTuple):
    """The object that an Event is about."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Occurrence:
    """What happened to an object, and how often since the last write."""

    subject: Subject
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Warning"
    count: int = 1

    @property
    def key(self) -> str:
        """Return the Event's name, which is the same for every occurrence."""
        digest = hashlib.sha256(f"{self.subject.uid} {self.reason}".encode()).hexdigest()[:16]
        return f"{self.subject.name}.{digest}"


def new_event(occurrence: Occurrence, namespace: str, now: datetime) -> Object:
    """Return the Event of what happened for the first time."""
    subject = occurrence.subject
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": occurrence.key, "namespace": namespace},
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "name": subject.name,
            "namespace": namespace,
            "uid": subject.uid,
        },
        "type": occurrence.type,
        "reason": occurrence.reason,
        "message": readable(occurrence.message, _MAX_MESSAGE_CHARS),
        "count": occurrence.count,
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
    }


def bump_count(occurrence: Occurrence, event: Object, now: datetime) -> list[dict[str, Any]]:
    """Return the patch that adds further occurrences to an Event."""
    changes = {
        "count": event.get("count", 0) + occurrence.count,
        "message": readable(occurrence.message, _MAX_MESSAGE_CHARS),
        "lastTimestamp": rfc3339(now),
    }
    return [{"op": "add", "path": f"/{field}", "value": value} for field, value in changes.items()]


class EventRecorder:
    """Writes Events in the background."""

    def __init__(self, kube: Kube, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._waiting: dict[str, Occurrence] = {}
        """What to write, by the name of the Event."""
        self._workers = KeyedWorkQueue(self._write, MAX_CONCURRENT_WRITES)

    def record(self, uid: str, name: str, reason: str, message: str) -> None:
        """Write an Event about the job, if the reason is one of `EVENT_REASONS`."""
        if reason in EVENT_REASONS:
            self._record(Occurrence(Subject(API_VERSION, "PhJob", name, uid), reason, message))

    def record_of_pod(self, uid: str, name: str, reason: str, message: str) -> None:
        """Write an Event about a gated pod."""
        kind: Literal["Normal", "Warning"] = "Warning" if reason in POD_WARNINGS else "Normal"
        self._record(Occurrence(Subject("v1", "Pod", name, uid), reason, message, kind))

    def _record(self, occurrence: Occurrence) -> None:
        waiting = self._waiting.get(occurrence.key)
        if waiting is None and len(self._waiting) >= MAX_WAITING_EVENTS:
            metrics.event_dropped("too many")
            return
        count = waiting.count + 1 if waiting else 1
        self._waiting[occurrence.key] = replace(occurrence, count=count)
        self._workers.add(occurrence.key)

    async def close(self) -> None:
        """Cancel all writes."""
        await self._workers.close()

    async def _write(self, key: str) -> None:
        """Write the Event of this name, or drop it."""
        occurrence = self._waiting.pop(key, None)
        if occurrence is None:
            return
        try:
            await self._put(occurrence)
        except (RejectedError, UnreachableError) as error:
            metrics.event_dropped("rejected" if isinstance(error, RejectedError) else "no answer")
            _, kind, name, uid = occurrence.subject
            _log.info("event_dropped", kind=kind, name=name, uid=uid, error=str(error))

    async def _put(self, occurrence: Occurrence) -> None:
        """Create the Event, or add to the existing one's count, in one attempt."""
        now = self._clock.now()
        try:
            await self._kube.create(EVENTS, new_event(occurrence, self._kube.namespace, now))
        except RejectedError as error:
            if not error.means(409):
                raise
            existing = await self._kube.get(EVENTS, occurrence.key)
            if existing is not None:
                await self._kube.patch(EVENTS, occurrence.key, bump_count(occurrence, existing, now))
