"""The election of the active watcher, by a Kubernetes Lease.

Every acquisition is a write. The resourceVersion that it returns is the number of the term: a later term has
a greater number, so consumers recognize the messages of an earlier watcher. Time only decides when a holder
that does not renew the Lease has lost it. Each replica measures that time on its own clock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from phjob_core.api import Object
from phjob_core.errors import RejectedError, RetryableError, UnreachableError
from phjob_core.resource import Resource
from phjob_kube.port import Kube
from phjob_runtime.clock import Clock

NAME = "phjob-watcher"
LEASES = Resource("leases", group="coordination.k8s.io")
LEASE_DURATION = timedelta(seconds=5)
"""The time without a renewal after which another replica may take the Lease."""
RENEW_PERIOD = timedelta(seconds=1.5)
"""The time between two renewals."""
RETRY_PERIOD = timedelta(seconds=0.5)
"""The time between two attempts to acquire the Lease. A released Lease may be free for that long."""
RELEASE_TIMEOUT = timedelta(seconds=1)
"""The time to release the Lease on shutdown. If the connection is dead, the Lease simply expires."""

_log = structlog.get_logger()


class LeaseLostError(RetryableError):
    """This replica must stop publishing, because another one may have started."""


class Lease:
    """The Lease, as one replica acquires, renews and releases it."""

    def __init__(self, kube: Kube, clock: Clock, identity: str) -> None:
        self._kube = kube
        self._clock = clock
        self._identity = identity
        self._observed: tuple[str, float] | None = None
        """The Lease's last resourceVersion, and when this replica first observed it (monotonic)."""
        self._held: Object | None = None

    async def acquire(self, on_standby: Callable[[], None]) -> int:
        """Wait until this replica has the Lease. Returns the number of its term.

        Calls `on_standby` after each attempt at which another replica has the Lease.
        """
        while True:
            lease = await self._kube.get(LEASES, NAME)
            if self._is_free(lease):
                try:
                    self._held = await self._write(lease, self._identity)
                except RejectedError:
                    _log.info("lease_acquisition_rejected")
                else:
                    return int(self._held["metadata"]["resourceVersion"])
            on_standby()
            await self._clock.sleep(RETRY_PERIOD.total_seconds())

    async def renew_forever(self) -> None:
        """Renew the Lease until that fails for too long.

        Raises:
            LeaseLostError: another replica has the Lease, or the API server did not answer in time.

        """
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(RENEW_PERIOD.total_seconds())
            try:
                # Without the timeout, this replica would publish beside its successor while it waits for an
                # answer.
                async with asyncio.timeout((LEASE_DURATION - RENEW_PERIOD).total_seconds()):
                    self._held = await self._write(self._held, self._identity)
                renewed = self._clock.monotonic()
            except RejectedError as error:
                msg = "another watcher took the Lease"
                raise LeaseLostError(msg) from error
            except (UnreachableError, TimeoutError) as error:
                if self._clock.monotonic() - renewed >= (LEASE_DURATION - RENEW_PERIOD).total_seconds():
                    msg = f"the Lease could not be renewed: {error}"
                    raise LeaseLostError(msg) from error

    @asynccontextmanager
    async def release_on_exit(self) -> AsyncIterator[None]:
        """Release the Lease when the context ends, so that another replica need not wait."""
        try:
            yield
        finally:
            try:
                # Not `asyncio.timeout`: before Python 3.11.3 it fails during a cancellation (gh-102780).
                await asyncio.wait_for(self._write(self._held, ""), RELEASE_TIMEOUT.total_seconds())
            except (RejectedError, UnreachableError, TimeoutError) as error:
                _log.info("lease_not_released", error=str(error) or "no answer in time")

    def _is_free(self, lease: Object | None) -> bool:
        """Return whether the Lease has no holder, or has expired on this replica's clock."""
        if lease is None or lease["spec"].get("holderIdentity") in (None, "", self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._observed is None or self._observed[0] != version:
            self._observed = (version, self._clock.monotonic())
        return self._clock.monotonic() - self._observed[1] > LEASE_DURATION.total_seconds()

    async def _write(self, lease: Object | None, holder: str) -> Object:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_DURATION.total_seconds()),
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
