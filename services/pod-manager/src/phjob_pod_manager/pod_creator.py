"""The creation of a job's pod, before the job is admitted.

The pod carries a scheduling gate, so it cannot start. The admission names its uid, and only the named pod
loses its gate. So a creation that is carried out late, or twice, does no harm.

`manifest.builder` builds the pod, and `command_writes` writes the result to the job.
"""

import asyncio
from datetime import datetime
from typing import NamedTuple

import structlog
from structlog.contextvars import bound_contextvars

from phjob_core.api import FENCE_ANNOTATION, Object, Phase
from phjob_core.errors import PermanentError, RejectedError, UnreachableError
from phjob_core.kinds import DATASETS, IMAGES, INSTANCE_TYPES, PHJOBS, PODS, Kind
from phjob_core.lifecycle import Event
from phjob_core.messages import Admit, PodSeen
from phjob_core.pod_limits import describe_overhead, excess, total
from phjob_core.projection import gate_index, job_uid, project_pod
from phjob_core.quantities import Amounts, render_all
from phjob_kube.port import Kube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.catalog_cache import CatalogCache
from phjob_pod_manager.dataset_secrets import DatasetSecrets, SecretRejectedError
from phjob_pod_manager.manifest import grants
from phjob_pod_manager.manifest.builder import PodInputs, UnbuildableError, build
from phjob_pod_manager.manifest.security import explain_rejection, profile_of
from phjob_pod_manager.manifest.volumes import GrantedDataset
from phjob_pod_manager.status_patches import Observed
from phjob_runtime.clock import Clock
from phjob_runtime.settings import JobSubmission

MAX_CREATE_ATTEMPTS = 5
"""The number of unanswered attempts before the job is read again: it may have changed."""
NAME_CONFLICT_PAUSES = (0.1, 0.2, 0.4)
"""The pauses in seconds between attempts while another pod of the same name is terminating."""
MAX_CONCURRENT_CREATIONS = 64
"""The number of pods created at once. Each takes up to 2 MiB, because a job's command may be as large."""
_STILL_ENDING = "the pod {!r} of an earlier attempt, or of an earlier job of this name, is still ending"

_log = structlog.get_logger()


class PodCreationError(PermanentError):
    """The pod cannot be created.

    `event` is the event that this is for the job. `overhead` is what the cluster has added to the pod, if
    that is more than the admission reserved.
    """

    def __init__(self, event: Event, reason: str, overhead: Amounts | None = None) -> None:
        super().__init__(reason)
        self.event = event
        self.overhead = overhead or {}


class AdmissionOverError(PermanentError):
    """The job is not in the state that the command expects. `job` is the job; None if it is gone."""

    def __init__(self, job: Object | None) -> None:
        super().__init__("the job has changed since the command was sent")
        self.job = job


class CreatedPod(NamedTuple):
    """The gated pod of an admission, without the job's command. A group may have 16 of them that wait."""

    observed: Observed
    pod: PodSeen


class PodCreator:
    """Creates gated pods from the catalog as it is at the time of each attempt."""

    def __init__(
        self, kube: Kube, clock: Clock, retrier: ApiRetrier, catalog: CatalogCache, settings: JobSubmission
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._retrier = retrier
        self._catalog = catalog
        self._secrets = DatasetSecrets(kube, clock, retrier)
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_CREATIONS)

    async def create(self, command: Admit) -> CreatedPod:
        """Create the gated pod of an admission, unless it exists.

        Raises:
            AdmissionOverError: the job is no longer to be admitted, or not by this command.
            PodCreationError: the pod cannot be created now, or ever.

        """
        with bound_contextvars(job=command.name, uid=command.uid):
            async with self._slots:
                job, created = await self._create(command)
                pod = project_pod(created)
                await self._check_size(pod, command)
            metadata = job["metadata"]
            job_created = datetime.fromisoformat(metadata["creationTimestamp"])
            return CreatedPod(Observed(job_created, metadata.get("generation", 0)), pod)

    async def find_job(self, command: Admit, *, cached: bool = False) -> Object | None:
        """Return the command's job from the API server; None if it is gone.

        `cached`: the API server's cache is recent enough.
        """
        job = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PHJOBS.resource, command.name, cached=cached), "get phjob"
        )
        return job if job and job["metadata"]["uid"] == command.uid else None

    async def _check_size(self, pod: PodSeen, command: Admit) -> None:
        """Delete the pod if it is larger than what the admission has reserved (spec.md, Q13).

        The API server adds the overhead of a RuntimeClass, and a webhook may add containers. Without this, a
        group could exceed its quota.

        Raises:
            PodCreationError: the pod is larger.

        """
        reserved = total((command.resources, command.overhead))
        if not excess(pod.limits, reserved):
            return
        await self._retrier.retry_until_definite(
            lambda: self._kube.delete(PODS.resource, pod.name, uid=pod.uid), "delete pod"
        )
        overhead = excess(pod.limits, command.resources)
        reason = f"{describe_overhead(overhead)}; it is admitted again with room for that"
        raise PodCreationError(Event.POD_NOT_CREATABLE_YET, reason, overhead)

    async def _create(self, command: Admit) -> tuple[Object, Object]:
        """Return the job to be admitted, and the pod."""
        pauses = iter(NAME_CONFLICT_PAUSES)
        while True:
            job = await self._expected_job(command)
            try:
                manifest = await self._manifest(job, command)
                pod = await self._retrier.retry_until_definite(
                    lambda manifest=manifest: self._kube.create(PODS.resource, manifest),  # type: ignore[misc]
                    "create pod",
                    max_attempts=MAX_CREATE_ATTEMPTS,
                )
            except SecretRejectedError as error:
                raise PodCreationError(Event.POD_CREATION_REJECTED, str(error)) from error
            except UnbuildableError as error:
                # The scheduler is about to learn of the catalog's change, and then lets the job wait.
                raise PodCreationError(Event.POD_NOT_CREATABLE_YET, str(error)) from error
            except UnreachableError as error:
                if error.status == 500:
                    raise PodCreationError(Event.POD_CREATION_REJECTED, str(error)) from error
                continue
            except RejectedError as error:
                found = await self._resolve_rejection(job["metadata"], command, error)
                if found:
                    return job, found
                if (pause := next(pauses, None)) is None:
                    raise PodCreationError(
                        Event.POD_NOT_CREATABLE_YET, _STILL_ENDING.format(command.name)
                    ) from error
                await self._clock.sleep(pause)
            else:
                _log.info("pod_created", pod=pod["metadata"]["uid"], fence=command.token)
                return job, pod

    async def _expected_job(self, command: Admit) -> Object:
        """Return the job, which is in the state that the command expects.

        The API server's cache is enough if it shows that state, because a job's shell command never changes,
        and the admission itself tests the rest.

        Raises:
            AdmissionOverError: the job is in another state.

        """
        cached = await self.find_job(command, cached=True)
        if cached and _is_expected(cached, command):
            return cached
        return await self._current_job(command)

    async def _current_job(self, command: Admit) -> Object:
        """Return the job as it is now, if this command may still admit it.

        Raises:
            AdmissionOverError: the job is in another state.

        """
        job = await self.find_job(command)
        if job is None or not _is_expected(job, command):
            raise AdmissionOverError(job)
        return job

    async def _manifest(self, job: Object, command: Admit) -> Object:
        """Return the pod's manifest, from the current catalog and the admitted resources.

        The Secrets to which the pod refers are written before.

        Raises:
            UnbuildableError: something that the pod is built from is missing or unusable.
            SecretRejectedError: a Secret that the pod refers to cannot be written.

        """
        admitted = {
            "fence": command.token,
            "resources": render_all(command.resources),
            "gpuResource": command.gpu_resource,
        }
        spec = job["spec"]
        image = await self._catalog_object(IMAGES, spec["image"])
        instance_type = await self._catalog_object(INSTANCE_TYPES, spec["instanceType"])
        if image is None or instance_type is None:
            missing = "image" if image is None else "instance type"
            msg = f"{missing} {spec['image' if image is None else 'instanceType']!r} was deleted"
            raise UnbuildableError(msg)
        groups = self._catalog.groups.counting()
        inputs = PodInputs(
            image,
            instance_type,
            grants.group_volumes(spec["groupName"], spec["userName"], groups),
            [
                GrantedDataset(name, await self._catalog_object(DATASETS, name), writable)
                for name, writable in grants.datasets(spec["groupName"], groups).items()
            ],
            self._catalog.groups.get(spec["groupName"]),
        )
        try:
            for dataset in inputs.datasets:
                if dataset.item is not None:
                    await self._secrets.ensure(dataset.item)
            return build({**job, "status": {**job["status"], **admitted}}, inputs, self._settings)
        except (UnbuildableError, SecretRejectedError):
            raise
        except Exception as error:  # Without this, one odd object would end the commands of its group.
            raise UnbuildableError(f"its pod cannot be built: {type(error).__name__}: {error}") from error

    async def _catalog_object(self, kind: Kind, name: str) -> Object | None:
        return await self._retrier.retry_until_definite(
            lambda: self._catalog.get(kind, name), f"get {kind.plural}"
        )

    async def _resolve_rejection(
        self, job_metadata: Object, command: Admit, error: RejectedError
    ) -> Object | None:
        """Find out what the rejection of a creation means.

        Returns the pod if it exists already, created for this command; None if the creation has to be
        repeated.

        Raises:
            PodCreationError: a policy, the pod itself or the use of its name prevents the creation.
            AdmissionOverError: the job is no longer in the state that the command expects.

        """
        if not error.means(409):
            # An operator may change a webhook or a policy, so that a denial does not fail the job.
            event = Event.POD_INVALID if error.means(400, 422) else Event.POD_CREATION_REJECTED
            profile = profile_of(self._catalog.groups.get(command.group), self._settings)
            raise PodCreationError(event, explain_rejection(str(error), profile)) from error
        found = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PODS.resource, command.name), "get pod"
        )
        if found is None:
            return None
        owner_uid, metadata = job_uid(found), found["metadata"]
        if not owner_uid:
            reason = f"the name of pod {command.name!r} is taken by another"
            raise PodCreationError(Event.POD_INVALID, reason) from error
        is_gated_and_ours = owner_uid == job_metadata["uid"] and gate_index(found) is not None
        if not is_gated_and_ours or "deletionTimestamp" in metadata:
            return None  # It is terminating, or the reconciler or Kubernetes is about to delete it.
        if (metadata.get("annotations") or {}).get(FENCE_ANNOTATION) == command.token:
            return found
        # Its token is another command's. If this command is over, it may be a successor's: keep it.
        await self._current_job(command)
        await self._retrier.retry_until_definite(
            lambda: self._kube.delete(PODS.resource, command.name, uid=metadata["uid"]), "delete pod"
        )
        return None


def _is_expected(job: Object, command: Admit) -> bool:
    """Return whether the job is as the command expects, and not cancelled or deleted."""
    is_unwanted = job["spec"].get("cancel") or "deletionTimestamp" in job["metadata"]
    status = job["status"]
    return not is_unwanted and (status["phase"], status["fence"]) == (Phase.PENDING, command.fence)
