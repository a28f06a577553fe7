"""Kubernetes Events about jobs, for `kubectl describe phj` (spec.md, E2).

There is one Event for each job and reason, which counts its occurrences. No decision depends on Events. One
that cannot be written is dropped and counted, so that Events delay neither jobs nor the API server.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

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
"""The reasons that get an Event. A failed command gets none, because its reason is the user's own."""
MAX_CONCURRENT_WRITES = 2
MAX_WAITING_EVENTS = 500
"""The number of Events that may wait to be written. Further ones are dropped."""

_MAX_MESSAGE_CHARS = 1024
"""The API server's bound on the message of an Event."""
_COMPONENT = "phjob"

_log = structlog.get_logger()


@dataclass(frozen=True)
class JobWarning:
    """A problem of a job, and the number of its occurrences since the last write."""

    uid: str
    """The uid of the job."""
    name: str
    """The name of the job."""
    reason: str
    message: str
    count: int = 1

    @property
    def key(self) -> str:
        """Return the Event's name, which is the same for every occurrence."""
        digest = hashlib.sha256(f"{self.uid} {self.reason}".encode()).hexdigest()[:16]
        return f"{self.name}.{digest}"


def new_event(warning: JobWarning, namespace: str, now: datetime) -> Object:
    """Return the Event of a problem that occurs for the first time."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": warning.key, "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "PhJob",
            "name": warning.name,
            "namespace": namespace,
            "uid": warning.uid,
        },
        "type": "Warning",
        "reason": warning.reason,
        "message": readable(warning.message, _MAX_MESSAGE_CHARS),
        "count": warning.count,
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
    }


def bump_count(warning: JobWarning, event: Object, now: datetime) -> list[dict[str, Any]]:
    """Return the patch that adds further occurrences to an Event."""
    changes = {
        "count": event.get("count", 0) + warning.count,
        "message": readable(warning.message, _MAX_MESSAGE_CHARS),
        "lastTimestamp": rfc3339(now),
    }
    return [{"op": "add", "path": f"/{field}", "value": value} for field, value in changes.items()]


class EventRecorder:
    """Writes Events in the background."""

    def __init__(self, kube: Kube, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._waiting: dict[str, JobWarning] = {}
        """The warnings to write, by the name of their Event."""
        self._workers = KeyedWorkQueue(self._write, MAX_CONCURRENT_WRITES)

    def record(self, uid: str, name: str, reason: str, message: str) -> None:
        """Write an Event about the job, if the reason is one of `EVENT_REASONS`."""
        if reason not in EVENT_REASONS:
            return
        warning = JobWarning(uid, name, reason, message)
        waiting = self._waiting.get(warning.key)
        if waiting is None and len(self._waiting) >= MAX_WAITING_EVENTS:
            metrics.event_dropped("too many")
            return
        self._waiting[warning.key] = replace(warning, count=waiting.count + 1) if waiting else warning
        self._workers.add(warning.key)

    async def close(self) -> None:
        """Cancel all writes."""
        await self._workers.close()

    async def _write(self, key: str) -> None:
        """Write the Event of this name, or drop it."""
        warning = self._waiting.pop(key, None)
        if warning is None:
            return
        try:
            await self._put(warning)
        except (RejectedError, UnreachableError) as error:
            metrics.event_dropped("rejected" if isinstance(error, RejectedError) else "no answer")
            _log.info("event_dropped", job=warning.name, uid=warning.uid, error=str(error))

    async def _put(self, warning: JobWarning) -> None:
        """Create the Event, or add to the existing one's count, in one attempt."""
        now = self._clock.now()
        try:
            await self._kube.create(EVENTS, new_event(warning, self._kube.namespace, now))
        except RejectedError as error:
            if not error.means(409):
                raise
            existing = await self._kube.get(EVENTS, warning.key)
            if existing is not None:
                await self._kube.patch(EVENTS, warning.key, bump_count(warning, existing, now))
