"""Kubernetes Events about jobs: what went wrong, for `kubectl describe phj`.

Nothing depends on them. There is one for each job and kind of trouble, which counts how often it came;
one that can't be written is dropped and counted, so that events never hold a job up, nor the API server.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from pod_manager import metrics
from pod_manager.lanes import Lanes
from pod_manager.status import rfc3339
from shared.clock import Clock
from shared.errors import RefusedError, UnreachableError
from shared.kube import Kube, Object, Resource
from shared.phjob import API_VERSION, Reason

EVENTS = Resource("events")
TOLD = frozenset(
    {
        Reason.REQUEUED, Reason.OVER_REQUEUE_LIMIT, Reason.OVER_ACTIVE_DEADLINE, Reason.NODE_LOST,
        Reason.POD_CREATION_FAILED, Reason.POD_DELETED, Reason.OVER_QUOTA, Reason.INVALID_SPEC,
    }
)  # fmt: skip
"""What went wrong with the job; that its command failed is the job's own news."""
AT_ONCE = 2
"""Events that are being written at a time."""
MOST_WAITING = 500
"""Events that may wait to be written; what comes then is dropped."""

_LONGEST_MESSAGE = 1024
_COMPONENT = "phjob"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Trouble:
    """What happened to a job, so many times since it was written last."""

    uid: str
    name: str
    """The job's."""
    reason: str
    message: str
    count: int = 1

    @property
    def key(self) -> str:
        """The event's name: the same whenever the same happens to the job."""
        digest = hashlib.sha256(f"{self.uid} {self.reason}".encode()).hexdigest()[:16]
        return f"{self.name}.{digest}"


def event(trouble: Trouble, namespace: str, now: datetime) -> Object:
    """The event, when it happens for the first time."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": trouble.key, "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "PhJob",
            "name": trouble.name,
            "namespace": namespace,
            "uid": trouble.uid,
        },
        "type": "Warning",
        "reason": trouble.reason,
        "message": trouble.message[:_LONGEST_MESSAGE],
        "count": trouble.count,
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
    }


def again(trouble: Trouble, before: Object, now: datetime) -> list[dict[str, Any]]:
    """What changes in the event when it happens again."""
    changes = {
        "count": before.get("count", 0) + trouble.count,
        "message": trouble.message[:_LONGEST_MESSAGE],
        "lastTimestamp": rfc3339(now),
    }
    return [{"op": "add", "path": f"/{field}", "value": value} for field, value in changes.items()]


class Events:
    """Writes events beside the work."""

    def __init__(self, kube: Kube, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._waiting: dict[str, Trouble] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._lanes = Lanes(self._write)

    def tell(self, uid: str, name: str, reason: str, message: str) -> None:
        """This has happened to the job; what is no trouble is not told."""
        if reason not in TOLD:
            return
        trouble = Trouble(uid, name, reason, message)
        before = self._waiting.get(trouble.key)
        if before is None and len(self._waiting) >= MOST_WAITING:
            metrics.event_dropped("too many")
            return
        count = before.count + 1 if before else 1
        self._waiting[trouble.key] = Trouble(uid, name, reason, message, count)
        self._lanes.touch(trouble.key)

    async def close(self) -> None:
        """Break off what is under way."""
        await self._lanes.close()

    async def _write(self, key: str) -> None:
        async with self._slots:
            trouble = self._waiting.pop(key, None)
            if trouble is None:
                return
            try:
                await self._put(trouble)
            except (RefusedError, UnreachableError) as error:
                metrics.event_dropped("refused" if isinstance(error, RefusedError) else "no answer")
                _log.info("event_dropped", job=trouble.name, uid=trouble.uid, why=str(error))

    async def _put(self, trouble: Trouble) -> None:
        """Create it, or count it up where it is; once, for nobody waits for it."""
        now = self._clock.now()
        try:
            await self._kube.create(EVENTS, event(trouble, self._kube.namespace, now))
        except RefusedError as error:
            if error.status != 409:
                raise
            before = await self._kube.get(EVENTS, trouble.key)
            if before is not None:
                await self._kube.patch(EVENTS, trouble.key, again(trouble, before, now))
