"""Every job that still needs something, and the steps that `plan` names, carried out.

Orders and facts change what is known and touch the job; its lane then takes one step after the
other until nothing is left to do. What it writes is made by `status` and `pod_builder`.
"""

import structlog

from pod_manager import catalog, grants, metrics, status
from pod_manager.lanes import Lanes
from pod_manager.plan import (
    CreatePod,
    DeletePod,
    MarkReclaimed,
    Step,
    Transit,
    Wish,
    next_step,
    relies_on_absence,
    wish_is_pointless,
)
from pod_manager.pod_builder import Ingredients, UnbuildableError, build
from pod_manager.volumes import GrantedDataset
from pod_manager.writes import Writer
from shared.clock import Clock
from shared.errors import RefusedError, UnreachableError
from shared.kube import Kube, Object, Resource
from shared.lifecycle import Event, transition
from shared.messages import JobGone, JobSeen, PodGone, PodSeen
from shared.phjob import GROUP, VERSION, Phase
from shared.projection import job_seen, pod_seen
from shared.settings import JobSubmission
from shared.view import View

PHJOBS = Resource("phjobs", GROUP, VERSION)
PODS = Resource("pods")
SERVER_ERROR_TRIES = 5
"""How often a pod's creation may end in a server error before the job is requeued."""
PREDECESSOR_PAUSE = 1.0
"""Seconds between two tries while the pod of a deleted job of the same name still stands."""

_log = structlog.get_logger()


class Jobs:
    """What is known of jobs and their pods, and the lanes that work on them."""

    def __init__(self, kube: Kube, clock: Clock, writer: Writer, settings: JobSubmission) -> None:
        self._kube = kube
        self._clock = clock
        self._writer = writer
        self._settings = settings
        self.catalog = catalog.CatalogObjects(kube)
        self._jobs: View[JobSeen] = View()
        self._pods: View[PodSeen] = View()
        self._pod_of: dict[str, str] = {}
        self._had_pod: dict[str, str] = {}
        self._wishes: dict[str, Wish] = {}
        self._admitted: dict[str, Object] = {}
        self._whole = False
        self._lanes = Lanes(self._work, self._failed)

    # --- what is known ---

    def begin(self, revisions: dict[str, int]) -> None:
        """Forget all but the answers to our own writes that are newer; a snapshot starts."""
        self._whole = False
        self._jobs.begin(revisions["phjobs"])
        self._pods.begin(revisions["pods"])
        self._pod_of = {pod.job_uid: pod.uid for pod in self._pods}
        self._had_pod = {pod.job_uid: pod.fence for pod in self._pods}
        self.catalog.begin(revisions)

    def end(self) -> None:
        """The snapshot is complete: look at every job, and at pods whose job is no more."""
        self._whole = True
        for job in self._jobs:
            self._lanes.touch(job.uid)
        for uid in list(self._wishes):
            self._lanes.touch(uid)

    def job_seen(self, seen: JobSeen, *, listed: bool) -> None:
        """A job is new or has changed."""
        if self._jobs.put(seen, listed=listed):
            self._lanes.touch(seen.uid)

    def job_gone(self, gone: JobGone) -> None:
        """A job was deleted, or needs nothing any more."""
        if self._jobs.drop(gone.uid, gone.resource_version):
            self._forget(gone.uid)

    def pod_seen(self, seen: PodSeen, *, listed: bool) -> bool:
        """A pod is new or has changed; whether that is news."""
        news = bool(seen.job_uid) and self._pods.put(seen, listed=listed)
        if news:
            self._pod_of[seen.job_uid] = seen.uid
            self._had_pod[seen.job_uid] = seen.fence
            self._lanes.touch(seen.job_uid)
        return news

    def pod_gone(self, gone: PodGone) -> None:
        """A pod is no more."""
        if self._pods.drop(gone.uid, gone.resource_version):
            if self._pod_of.get(gone.job_uid) == gone.uid:
                del self._pod_of[gone.job_uid]
            self._lanes.touch(gone.job_uid)

    def admitted(self, job: Object) -> None:
        """A job's admission was written: its pod is next."""
        seen = job_seen(job)
        if self._jobs.put(seen):
            self._admitted[seen.uid] = job
            self._lanes.touch(seen.uid)

    def refused(self, uid: str) -> None:
        """A job's refusal was written: nothing is left to do."""
        self._forget(uid)

    def wish(self, uid: str, event: Event | None, message: str, fence: str) -> None:
        """The janitor wants something of the job."""
        pod = self._pod(uid)
        if event and pod and pod.reason:
            message = f"{message}: {pod.reason}: {pod.message}".removesuffix(": ")
        self._wishes[uid] = Wish(event, message, fence)
        self._lanes.touch(uid)

    async def close(self) -> None:
        """Break off what is under way."""
        await self._lanes.close()

    def _pod(self, uid: str) -> PodSeen | None:
        return self._pods.get(self._pod_of.get(uid, ""))

    def _forget(self, uid: str) -> None:
        self._jobs.forget(uid)
        self._admitted.pop(uid, None)
        self._had_pod.pop(uid, None)
        self._wishes.pop(uid, None)

    # --- what is done ---

    async def _work(self, uid: str) -> None:
        """Take one step after the other until nothing is left to do, or somebody else must act."""
        while self._whole:
            job = self._jobs.get(uid)
            wish = self._wishes.get(uid)
            if wish and (job is None or wish_is_pointless(job, wish)):
                del self._wishes[uid]
                wish = None
            if job is None:
                return
            had_pod = self._had_pod.get(uid) == job.fence
            pod = self._pod(uid)
            step = next_step(job, pod, wish, had_pod=had_pod)
            if step is None or not await self._take(step, job, pod):
                return

    async def _take(self, step: Step, job: JobSeen, pod: PodSeen | None) -> bool:
        """Take the step; whether there may be another right after it."""
        if await self._is_mistaken(step, job, pod):
            return True
        match step:
            case Transit(event=event, message=message):
                return await self._transit(job, event, message, pod)
            case CreatePod():
                return await self._create_pod(job)
            case DeletePod(pod=unwanted, revision=revision):
                await self._writer.definite(
                    lambda: self._kube.delete(PODS, unwanted.name, uid=unwanted.uid, revision=revision),
                    "delete pod",
                )
                _log.info("pod_deleted", job=job.name, uid=job.uid, pod=unwanted.uid)
                return False
            case MarkReclaimed():
                return await self._write(job, status.reclaimed(job), "reclaimed")

    async def _is_mistaken(self, step: Step, job: JobSeen, pod: PodSeen | None) -> bool:
        """Whether the step rests on something that the API server, asked now, knows better.

        Jobs and pods are told by two watches, and listed one after the other: of a job and its pod,
        one may be known as it was a moment before the other. What can't be undone is not done on that.
        """
        if isinstance(step, DeletePod) and step.stray:
            return await self._look(job)
        if pod is None and relies_on_absence(step) and job.phase is not Phase.PENDING:
            found = await self._writer.definite(lambda: self._kube.get(PODS, job.name), "get pod")
            if found is not None and _phjob_of(found).get("uid") == job.uid:
                return self.pod_seen(pod_seen(found), listed=False)
        return False

    async def _transit(self, job: JobSeen, event: Event, message: str, pod: PodSeen | None) -> bool:
        change = transition(job.phase, event)
        if change is None:
            _log.error("event_without_transition", job=job.name, phase=job.phase, event_=event)
            return False
        patch = status.transit(job, event, change, message, pod, self._clock.now())
        written = await self._write(job, patch, event.name)
        if written:
            phase, reason = status.outcome(patch)
            metrics.transition(phase, change.reason)
            _log.info(
                "transition", job=job.name, uid=job.uid, group=job.group,
                phase=phase, reason=reason, why=message,
            )  # fmt: skip
        return written

    async def _write(self, job: JobSeen, patch: status.Patch, what: str) -> bool:
        """Write to the job's status; whether more is known than before."""
        try:
            answer = await self._writer.definite(
                lambda: self._kube.patch(PHJOBS, job.name, patch, subresource="status"), what
            )
        except RefusedError as error:
            metrics.refused(what)
            _log.info("write_refused", job=job.name, uid=job.uid, what=what, why=str(error))
            return await self._look(job)
        self._learn(job, answer)
        return True

    async def _look(self, job: JobSeen) -> bool:
        """Ask how the job is; whether that is news."""
        answer = await self._writer.definite(lambda: self._kube.get(PHJOBS, job.name), "get phjob")
        return self._learn(job, answer)

    def _learn(self, job: JobSeen, answer: Object | None) -> bool:
        """Take what the API server answered for the newest knowledge; whether it is."""
        if answer is None or answer["metadata"]["uid"] != job.uid:
            self._forget(job.uid)
            return True
        if answer["status"].get("reclaimed"):
            self._forget(job.uid)
            return True
        return self._jobs.put(job_seen(answer))

    async def _create_pod(self, job: JobSeen) -> bool:
        phjob = self._admitted.pop(job.uid, None)
        if phjob is None or phjob["status"]["fence"] != job.fence:
            phjob = await self._writer.definite(lambda: self._kube.get(PHJOBS, job.name), "get phjob")
        if phjob is None or phjob["metadata"]["uid"] != job.uid or job_seen(phjob).phase != job.phase:
            return self._learn(job, phjob)
        try:
            manifest = await self._manifest(phjob)
            answer = await self._writer.definite(
                lambda: self._kube.create(PODS, manifest), "create pod", tries=SERVER_ERROR_TRIES
            )
        except UnbuildableError as error:
            return await self._transit(job, Event.POD_INVALID, str(error), None)
        except RefusedError as error:
            return await self._pod_refused(job, error)
        except UnreachableError as error:
            if error.status != 500:
                return True
            return await self._transit(job, Event.POD_REFUSED, str(error), None)
        _log.info("pod_created", job=job.name, uid=job.uid, pod=answer["metadata"]["uid"])
        self.pod_seen(pod_seen(answer), listed=False)
        return False

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

    async def _pod_refused(self, job: JobSeen, error: RefusedError) -> bool:
        """The API server does not take the pod: because of its name, itself, or a policy."""
        if error.status == 409 and error.reason == "AlreadyExists":
            pod = await self._writer.definite(lambda: self._kube.get(PODS, job.name), "get pod")
            if pod is None:
                return True
            owner = _phjob_of(pod)
            if owner.get("uid") == job.uid:
                self.pod_seen(pod_seen(pod), listed=False)
                return True
            if owner.get("name") == job.name:
                # Of a job of this name that was deleted: Kubernetes is about to remove it.
                await self._clock.sleep(PREDECESSOR_PAUSE)
                return True
            return await self._transit(
                job, Event.POD_INVALID, f"the name of pod {job.name!r} is taken by another", None
            )
        if error.status in (400, 422):
            return await self._transit(job, Event.POD_INVALID, str(error), None)
        return await self._transit(job, Event.POD_REFUSED, str(error), None)

    @staticmethod
    def _failed(error: Exception) -> None:
        _log.error("lane_failed", exc_info=error)
        metrics.failed()


def _phjob_of(pod: Object) -> Object:
    """The reference to the PhJob that controls the pod; empty if none does."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((o for o in owners if o.get("controller") and o.get("kind") == "PhJob"), {})
