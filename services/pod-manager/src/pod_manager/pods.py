"""The creation of a job's pod, and what the API server may say to it.

What a pod looks like is `pod_builder`'s part, what becomes of the job is `jobs`'.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count

import structlog

from pod_manager import catalog, grants
from pod_manager.pod_builder import Ingredients, UnbuildableError, build
from pod_manager.under_way import UnderWay
from pod_manager.volumes import GrantedDataset
from pod_manager.writes import Writer
from shared.bus import HEARTBEAT
from shared.clock import Clock
from shared.errors import PermanentError, RefusedError, UnreachableError
from shared.kube import Kube, Object, Resource
from shared.lifecycle import Event
from shared.projection import owner
from shared.settings import JobSubmission

PODS = Resource("pods")
SERVER_ERROR_TRIES = 5
"""How often a pod's creation may end in a server error before the job is requeued."""
SURE_FOR = timedelta(seconds=1.5 * HEARTBEAT)
"""How long nobody takes over from a process that was only stopped: RabbitMQ misses two heartbeats first."""
ON_ITS_WAY = timedelta(seconds=1)
"""How long the creation of a pod may be on its way to the API server, or to etcd, as a rule."""
PREDECESSOR_PAUSE = 1.0
"""Seconds between two tries while the pod of a deleted job of the same name still stands."""

_log = structlog.get_logger()


class PodProblem(PermanentError):  # noqa: N818 - it is an event of the job
    """A pod can't be created; `event` is what that means for the job, if it has none."""

    def __init__(self, event: Event, why: str) -> None:
        super().__init__(why)
        self.event = event


class AdmissionOverError(PermanentError):
    """The job has moved on, while we were asleep or the API server was away: it may have no pod of ours."""


class Pods:
    """Makes pods of jobs, with the catalog as it is then."""

    def __init__(self, kube: Kube, clock: Clock, writer: Writer, settings: JobSubmission) -> None:
        self._kube = kube
        self._clock = clock
        self._writer = writer
        self._settings = settings
        self.catalog = catalog.CatalogObjects(kube)
        self.under_way = UnderWay()
        """The creations."""

    @property
    def sure_for(self) -> timedelta:
        """How long an admission that was written stands for sure, whether we sleep or not."""
        return min(SURE_FOR, timedelta(seconds=self._settings.preparing_timeout_seconds) / 4)

    async def create(self, phjob: Object, still_admitted: Callable[[int], Awaitable[None]]) -> Object | None:
        """The job's pod, new or found; None: nothing is certain, look again.

        `still_admitted` is asked right before each request, told how many were made, and raises
        AdmissionOverError if not.

        Raises:
            PodProblem: it can't be created, now or ever.

        """
        self.under_way.begin()
        try:
            return await self._create(phjob, still_admitted)
        finally:
            self.under_way.end()

    async def _create(self, phjob: Object, still_admitted: Callable[[int], Awaitable[None]]) -> Object | None:
        made = count()

        async def request() -> Object:
            await still_admitted(next(made))
            return await self._kube.create(PODS, manifest)

        try:
            manifest = await self._manifest(phjob)
            pod = await self._writer.definite(request, "create pod", tries=SERVER_ERROR_TRIES)
        except UnbuildableError as error:
            raise PodProblem(Event.POD_INVALID, str(error)) from error
        except RefusedError as error:
            return await self._refused(phjob["metadata"], error)
        except UnreachableError as error:
            if error.status != 500:
                return None
            await self._clock.sleep(ON_ITS_WAY.total_seconds())  # It may be done all the same.
            raise PodProblem(Event.POD_REFUSED, str(error)) from error
        metadata = phjob["metadata"]
        _log.info("pod_created", job=metadata["name"], uid=metadata["uid"], pod=pod["metadata"]["uid"])
        return pod

    async def _manifest(self, phjob: Object) -> Object:
        """The pod's manifest, from the catalog as it is now."""
        spec = phjob["spec"]
        image = await self._item(catalog.IMAGES, spec["image"])
        instance_type = await self._item(catalog.INSTANCE_TYPES, spec["instanceType"])
        if image is None or instance_type is None:
            missing = "image" if image is None else "instance type"
            msg = f"{missing} {spec['image' if image is None else 'instanceType']!r} was deleted"
            raise UnbuildableError(msg)
        groups = list(self.catalog.groups)
        ingredients = Ingredients(
            image,
            instance_type,
            grants.group_volumes(spec["groupName"], spec["userName"], groups),
            [
                GrantedDataset(name, await self._item(catalog.DATASETS, name), writable)
                for name, writable in grants.datasets(spec["groupName"], groups).items()
            ],
        )
        return build(phjob, ingredients, self._settings)

    async def _item(self, kind: str, name: str) -> Object | None:
        return await self._writer.definite(lambda: self.catalog.get(kind, name), f"get {kind}")

    async def _refused(self, job: Object, error: RefusedError) -> Object | None:
        """The API server does not take the pod: because of its name, itself, or a policy."""
        if error.status == 409 and error.reason == "AlreadyExists":
            pod = await self._writer.definite(lambda: self._kube.get(PODS, job["name"]), "get pod")
            if pod is None:
                return None
            controller = owner(pod)
            if controller.get("uid") == job["uid"]:
                return pod
            if controller.get("name") == job["name"]:
                # Of a job of this name that was deleted: Kubernetes is about to remove it.
                await self._clock.sleep(PREDECESSOR_PAUSE)
                return None
            raise PodProblem(Event.POD_INVALID, f"the name of pod {job['name']!r} is taken by another")
        invalid = error.status in (400, 422)
        raise PodProblem(Event.POD_INVALID if invalid else Event.POD_REFUSED, str(error)) from error
