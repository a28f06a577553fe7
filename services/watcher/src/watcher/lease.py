"""The election of the one watcher that tells, by a Kubernetes Lease.

Every acquisition is a write, so its resourceVersion names an epoch: later ones are greater, which
is what makes a predecessor's messages recognizable. Time decides only when a silent holder is
given up, and it is measured from what this replica saw, on its own clock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import RefusedError, RetryableError, UnreachableError
from shared.kube import Kube, Object, Resource

NAME = "phjob-watcher"
LEASES = Resource("leases", group="coordination.k8s.io")
DURATION = timedelta(seconds=5)
"""How long a holder that renews no more is believed to live."""
RENEW = timedelta(seconds=1.5)
"""Between two renewals."""
LOOK = timedelta(seconds=0.5)
"""Between two looks of a replica that waits: how long a Lease that was handed over may lie there."""
PATIENCE = timedelta(seconds=1)
"""How long it may take to hand the Lease over: over a dead connection it can't be, and others wait anyway."""

_log = structlog.get_logger()


class LeaseLostError(RetryableError):
    """This replica may tell no more: another may have begun."""


class Lease:
    """One replica's view of the Lease."""

    def __init__(self, kube: Kube, clock: Clock, identity: str) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._seen: tuple[str, datetime] | None = None
        self._held: Object | None = None

    async def acquire(self, standing_by: Callable[[], None]) -> int:
        """Wait until this replica is the one; the epoch of its reign.

        `standing_by` is called when another one is.
        """
        while True:
            lease = await self._kube.get(LEASES, NAME)
            if self._free(lease):
                try:
                    self._held = await self._write(lease, self._identity)
                except RefusedError:
                    _log.info("lease_taken_by_another")
                else:
                    return int(self._held["metadata"]["resourceVersion"])
            standing_by()
            await self._clock.sleep(LOOK.total_seconds())

    async def keep(self) -> None:
        """Renew until that fails for too long.

        Raises:
            LeaseLostError: another has it, or nobody could be asked in time.

        """
        renewed = self._clock.now()
        while True:
            await self._clock.sleep(RENEW.total_seconds())
            try:
                # Whoever waits longer for an answer than the Lease lasts would tell on beside a successor.
                async with asyncio.timeout((DURATION - RENEW).total_seconds()):
                    self._held = await self._write(self._held, self._identity)
                renewed = self._clock.now()
            except RefusedError as error:
                msg = "another watcher took the Lease"
                raise LeaseLostError(msg) from error
            except (UnreachableError, TimeoutError) as error:
                if self._clock.now() - renewed >= DURATION - RENEW:
                    msg = f"the Lease could not be renewed: {error}"
                    raise LeaseLostError(msg) from error

    @asynccontextmanager
    async def released_at_end(self) -> AsyncIterator[None]:
        """Hand the Lease over at once when the context ends."""
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await self._write(self._held, "")
            except (RefusedError, UnreachableError, TimeoutError) as error:
                _log.info("lease_not_released", why=str(error) or "no answer in time")

    def _free(self, lease: Object | None) -> bool:
        """Whether nobody holds the Lease, or its holder has been silent for too long."""
        if lease is None or lease["spec"].get("holderIdentity") in (None, "", self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock.now())
        return self._clock.now() - self._seen[1] > DURATION

    async def _write(self, lease: Object | None, holder: str) -> Object:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(DURATION.total_seconds()),
            "renewTime": now,
        }
        if lease is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME},
                "spec": {**spec, "acquireTime": now},
            }
            return await self._kube.create(LEASES, body)
        renewed = {**lease["spec"], **spec}
        if lease["spec"].get("holderIdentity") != holder:
            renewed["acquireTime"] = now
        return await self._kube.replace(LEASES, NAME, {**lease, "spec": renewed})
