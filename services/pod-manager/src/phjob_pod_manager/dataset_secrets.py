"""The Secrets with the variables of datasets, written before a pod refers to them (spec.md, P8).

pod-manager has no right to read a Secret. So it replaces the whole Secret, at any resourceVersion, and notes
what it has written. A note is short-lived, because others may have changed or deleted the Secret since:
another shard, a person, or an older write that arrives late.
"""

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

from phjob_core.api import Object
from phjob_core.errors import PermanentError, RejectedError
from phjob_core.resource import Resource
from phjob_kube.port import Kube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.manifest import dataset_secret
from phjob_runtime.clock import Clock

NOTE_SECONDS = 60.0
"""The time after a write during which it is not repeated. It is shorter than the usual start timeout.

Therefore a job whose pod has not started for want of a Secret gets one with its next attempt.
"""
MAX_NOTES = 1024
"""The number of datasets whose last write is noted, which bounds the memory."""
MAX_ATTEMPTS = 3
"""The number of attempts to write a Secret that others create and delete meanwhile."""
_SECRETS = Resource("secrets")
_FOREIGN = "type: Invalid value"
"""In the API server's message about a Secret of another type: its type cannot be changed."""


class SecretRejectedError(PermanentError):
    """The API server does not accept the Secret of a dataset. The message names both and the remedy."""


@dataclass(frozen=True)
class _Note:
    """A Secret that was written."""

    uid: str
    """The uid of the Dataset."""
    revision: int
    """The resourceVersion of the Dataset."""
    at: float
    """When it was written, by the monotonic clock."""

    def covers(self, dataset: Object, now: float) -> bool:
        """Return whether the Secret does not have to be written for this state of the Dataset."""
        metadata = dataset["metadata"]
        is_as_new = self.uid == metadata["uid"] and self.revision >= int(metadata["resourceVersion"])
        return is_as_new and now - self.at < NOTE_SECONDS


class DatasetSecrets:
    """Keeps the Secret of each dataset equal to the dataset's variables."""

    def __init__(self, kube: Kube, clock: Clock, retrier: ApiRetrier) -> None:
        self._kube = kube
        self._clock = clock
        self._retrier = retrier
        self._notes: dict[str, _Note] = {}
        """The last write for each dataset, by name; the oldest first."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """For each dataset that is being written. Without it, an older state could replace a newer one."""

    async def ensure(self, dataset: Object) -> None:
        """Write the dataset's Secret, if it has one, and unless it was written a moment ago.

        Raises:
            SecretRejectedError: the API server does not accept the Secret, or its name is taken.

        """
        secret, metadata = dataset_secret.secret(dataset), dataset["metadata"]
        if secret is None:
            return
        name = metadata["name"]
        lock = self._locks.get(name) or self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            note = self._notes.get(name)
            if note and note.covers(dataset, self._clock.monotonic()):
                return
            await self._write(name, secret)
            self._notes.pop(name, None)
            if len(self._notes) >= MAX_NOTES:
                del self._notes[next(iter(self._notes))]
            written_at = self._clock.monotonic()
            self._notes[name] = _Note(metadata["uid"], int(metadata["resourceVersion"]), written_at)

    async def _write(self, dataset: str, secret: Object) -> None:
        """Replace the Secret, or create it if there is none."""
        name = secret["metadata"]["name"]
        for _ in range(MAX_ATTEMPTS):
            try:
                await self._retrier.retry_until_definite(
                    lambda: self._kube.replace(_SECRETS, name, secret), "replace secret"
                )
            except RejectedError as error:
                if not error.means(404):
                    raise _rejection(dataset, name, error) from error
            else:
                return
            try:
                await self._retrier.retry_until_definite(
                    lambda: self._kube.create(_SECRETS, secret), "create secret"
                )
            except RejectedError as error:
                if not error.means(409):
                    raise _rejection(dataset, name, error) from error
            else:
                return
        msg = f"the Secret {name!r} of dataset {dataset!r} was created and deleted by others meanwhile"
        raise SecretRejectedError(msg)


def _rejection(dataset: str, name: str, error: RejectedError) -> SecretRejectedError:
    """Return the error for a Secret that the API server does not accept."""
    if _FOREIGN in str(error):
        return SecretRejectedError(
            f"the Secret {name!r}, which dataset {dataset!r} needs, exists and is not PhJob's: "
            "an operator has to delete that Secret, or to rename the dataset"
        )
    return SecretRejectedError(f"the Secret {name!r} of dataset {dataset!r} cannot be written: {error}")
