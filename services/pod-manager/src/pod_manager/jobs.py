"""Every job that still needs something, and the steps that `plan` names, carried out.

Orders and facts change what is `known` and touch the job; its lane then takes one step after the
other until nothing is left to do. What it writes is made by `status`; pods are made by `pods`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from pod_manager import metrics, status
from pod_manager.archive import ArchiveError
from pod_manager.diagnosis import SILENT, why_not_started
from pod_manager.events import Events
from pod_manager.known import Known
from pod_manager.lanes import Lanes
from pod_manager.logs import Logs
from pod_manager.plan import (
    CreatePod,
    DeletePod,
    DeleteRecord,
    MarkReclaimed,
    Situation,
    Step,
    StoreLog,
    Transit,
    Wish,
    next_step,
    relies_on_absence,
    step_without_job,
)
from pod_manager.pods import ON_ITS_WAY, PODS, AdmissionOverError, PodProblem, Pods
from pod_manager.writes import Writer
from shared.clock import Clock
from shared.errors import RefusedError
from shared.kube import Kube, Object, Resource
from shared.lifecycle import Event, Refused, transition
from shared.messages import Fact, JobGone, JobSeen, NodeGone, NodeSeen, PodGone, PodSeen
from shared.phjob import GROUP, VERSION, Phase
from shared.projection import job_seen, owner, pod_seen

PHJOBS = Resource("phjobs", GROUP, VERSION)
_log = structlog.get_logger()


class Jobs:
    """The lanes that work on the jobs of one shard."""

    def __init__(
        self, kube: Kube, clock: Clock, writer: Writer, pods: Pods, logs: Logs, events: Events
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._writer = writer
        self._pods = pods
        self._logs = logs
        self.events = events
        self._known = Known()
        self._cancels: dict[str, datetime] = {}
        """When a cancel was seen that is not written yet."""
        self._being_admitted: set[str] = set()
        self._whole = False
        self._creates = True
        self._lanes = Lanes(self._work)

    # --- what is known ---

    def begin(self, revisions: dict[str, int]) -> None:
        """Forget all but the answers to our own writes that are newer; a snapshot starts."""
        self._whole = False
        self._known.begin(revisions)
        self._pods.catalog.begin(revisions)

    def end(self) -> None:
        """The snapshot is complete: look at every job, and at pods whose job is no more."""
        self._whole = True
        for uid in self._known.everything():
            self._lanes.touch(uid)

    def fact(self, fact: Fact, *, listed: bool) -> None:
        """Something in Kubernetes is so."""
        known = self._known
        match fact:
            case JobSeen():
                if fact.cancel and not fact.phase.final:
                    self._cancels.setdefault(fact.uid, self._clock.now())
                self._touch(fact.uid, news=known.job(fact, listed=listed))
            case JobGone():
                self._cancels.pop(fact.uid, None)
                self._touch(fact.uid, news=known.job_gone(fact))
            case PodSeen():
                self._touch(fact.job_uid, news=known.pod(fact, listed=listed))
            case PodGone():
                self._touch(fact.job_uid, news=known.pod_gone(fact))
                self._logs.forget(fact.uid)
            case NodeSeen():
                for uid in known.node(fact, listed=listed):
                    self._lanes.touch(uid)
            case NodeGone():
                known.node_gone(fact)
            case _:
                self._pods.catalog.fact(fact, listed=listed)

    @contextmanager
    def being_admitted(self, uid: str) -> Iterator[None]:
        """Inside, a job's admission is written, and nothing else is done about it.

        The watch may tell of that write before its answer comes: it would look like somebody else's.
        """
        self._being_admitted.add(uid)
        try:
            yield
        finally:
            self._being_admitted.discard(uid)
            self._lanes.touch(uid)

    def admitted(self, job: Object, at: datetime) -> None:
        """A job's admission was written at that time: its pod is next."""
        self._known.confirmed(job, at, inherited_at=None)

    def refused(self, uid: str) -> None:
        """A job's refusal was written: nothing is left to do."""
        self._known.forget(uid)

    def wish(self, uid: str, wish: Wish) -> None:
        """The janitor wants something of the job."""
        pod, standing = self._known.pod_of(uid), self._known.wish_for(uid)
        if (
            standing is None or standing.event is not wish.event
        ):  # Else it is under way, and says more by now.
            self._known.wish(uid, wish)
            if pod:
                self._logs.retry(pod)
        self._lanes.touch(uid)

    def due(self) -> datetime | None:
        """When to look at a job though nobody says anything of it."""
        return self._logs.due()

    def tick(self) -> None:
        """Do so."""
        for uid in self._logs.take():
            self._lanes.touch(uid)

    def hold_creations(self) -> None:
        """Create no pod until `resume_creations`, and then only of jobs that are admitted still."""
        self._creates = False
        self._known.doubt()

    def resume_creations(self) -> None:
        """The scheduler knows every job that is there, and will hear of each that is deleted."""
        if not self._creates:
            self._creates = True
            for uid in self._known.everything():
                self._lanes.touch(uid)

    async def no_creation_under_way(self) -> None:
        """Return when every pod whose creation has begun is there, or never will be."""
        await self._pods.under_way.none()

    async def close(self) -> None:
        """Break off what is under way."""
        await self._lanes.close()

    def _touch(self, uid: str, *, news: bool) -> None:
        if news:
            self._lanes.touch(uid)

    # --- what is done ---

    async def _work(self, uid: str) -> None:
        """Take one step after the other until nothing is left to do, or somebody else must act."""
        while self._whole and uid not in self._being_admitted:
            job = self._known.jobs.get(uid)
            if job is None:
                await self._without_job(uid)
                return
            pod = self._known.pod_of(uid)
            log = self._logs.state(job, pod, node_lost=self._known.is_lost(pod))
            now = self._known.situation(job, log)
            step = next_step(now)
            if step is None or (isinstance(step, CreatePod) and not self._creates):
                return
            if not await self._take(step, now):
                return

    async def _without_job(self, uid: str) -> None:
        """What is left to do for a job of which only its record is left, or nothing."""
        wish, pod = self._known.wish_for(uid), self._known.pod_of(uid)
        if wish and wish.event is Event.HISTORY_OVER:
            await self._delete(PHJOBS, wish.name, uid)
        self._known.wish(uid, None)
        lost = self._known.is_lost(pod)
        if pod is None or (pod.deleting and not lost):
            return
        found = await self._writer.definite(lambda: self._kube.get(PHJOBS, pod.name), "get phjob")
        record = found is not None and found["metadata"]["uid"] == uid
        if found and record and not found["status"].get("reclaimed"):
            return  # Its watch is about to tell of it.
        if step := step_without_job(pod, record=record, node_lost=lost):
            await self._delete(PODS, step.pod.name, step.pod.uid, force=step.force)

    async def _take(self, step: Step, now: Situation) -> bool:
        """Take the step; whether there may be another right after it."""
        job, pod = now.job, now.pod
        if await self._is_mistaken(step, now):
            return True
        match step:
            case Transit():
                return await self._transit(job, step, pod)
            case CreatePod():
                return await self._create_pod(now)
            case StoreLog():
                return await self._store_log(job, step.pod)
            case DeletePod():
                await self._explain(job, step.pod)
                self._logs.lost(job, step.pod)
                await self._delete(
                    PODS, step.pod.name, step.pod.uid, revision=step.revision, force=step.force
                )
                return False
            case MarkReclaimed():
                return await self._write(job, status.reclaimed(job), "reclaimed")
            case DeleteRecord():
                await self._delete(PHJOBS, job.name, job.uid)
                return False

    async def _is_mistaken(self, step: Step, now: Situation) -> bool:
        """Whether the step rests on something that the API server, asked now, knows better.

        Jobs and pods are told by two watches, and listed one after the other: of a job and its pod,
        one may be known as it was a moment before the other. What can't be undone is not done on that.
        """
        job = now.job
        if isinstance(step, DeletePod) and step.stray:
            return await self._look(job)
        if now.pod is None and relies_on_absence(step) and job.phase is not Phase.PENDING:
            if job.phase is Phase.PREPARING and not now.had_pod and await self._outlast_others(job):
                return True
            found = await self._writer.definite(lambda: self._kube.get(PODS, job.name), "get pod")
            if found is not None and owner(found).get("uid") == job.uid:
                self._known.pod(pod_seen(found))
                return True
            return self._known.pod_of(job.uid) is not None
        return False

    async def _transit(self, job: JobSeen, step: Transit, pod: PodSeen | None) -> bool:
        change = transition(job.phase, step.event)
        if isinstance(change, Refused):
            _log.error("event_refused", job=job.name, phase=job.phase, event_=step.event, why=change.why)
            return False
        wish = self._known.wish_for(job.uid)
        generation = wish.generation if wish and wish.event is step.event else None
        patch = status.transit(job, step, change, pod, self._clock.now(), generation)
        written = await self._write(job, patch, step.event.name)
        if written:
            said = status.outcome(patch)
            metrics.transition(job.group, said.phase, change.reason or "")
            self.events.tell(job.uid, job.name, said.reason, said.message)
            self._measure(job, step, pod)
            _log.info(
                "transition", job=job.name, uid=job.uid, group=job.group,
                phase=said.phase, reason=said.reason, why=said.message,
            )  # fmt: skip
        return written

    def _measure(self, job: JobSeen, step: Transit, pod: PodSeen | None) -> None:
        """Tell how long what has ended now took."""
        if step.event is Event.CANCELLED and (seen := self._cancels.pop(job.uid, None)):
            metrics.cancelled(self._clock.now() - seen)
        if pod is None or pod.start_time is None:
            return
        if job.phase is Phase.PREPARING and job.preparing_time:
            metrics.started(pod.start_time - job.preparing_time)
        if pod.finish_time:
            metrics.ran(job.group, pod.finish_time - pod.start_time)

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
        if answer is None or answer["metadata"]["uid"] != job.uid or answer["status"].get("reclaimed"):
            self._known.forget(job.uid)
            return True
        return self._known.job(job_seen(answer))

    async def _create_pod(self, now: Situation) -> bool:
        job = now.job
        confirmation = self._known.confirmation(job)
        if confirmation is None:
            return await self._confirm(job)
        try:
            pod = await self._pods.create(confirmation.job, lambda made: self._still_admitted(job, made))
        except AdmissionOverError as error:
            metrics.refused("confirm")
            _log.info("admission_over", job=job.name, uid=job.uid, why=str(error))
            await self._look(job)
            return True
        except PodProblem as problem:
            written = self._known.confirmation(job)
            if written is None:
                return True  # The job has moved on, or has a pod now.
            # An earlier try may be done all the same: as any step, it is made sure that there is no pod.
            return await self._take(Transit(problem.event, str(problem)), replace(now, job=written.seen))
        if pod is not None:
            self._known.pod(pod_seen(pod))
        return True

    async def _confirm(self, job: JobSeen) -> bool:
        """Write an admission anew that a predecessor wrote; whether that is news.

        What the predecessor may have written of a job without a pod is void then, however late it comes:
        else the job could be requeued, and run again, while the pod that we create runs.
        """
        now, patch = self._clock.now(), status.confirm(job)
        try:
            answer = await self._writer.definite(
                lambda: self._kube.patch(PHJOBS, job.name, patch, subresource="status"), "confirm"
            )
        except RefusedError as error:
            metrics.refused("confirm")
            _log.info("write_refused", job=job.name, uid=job.uid, what="confirm", why=str(error))
            return await self._look(job)
        self._known.confirmed(answer, now, inherited_at=now)
        return True

    async def _outlast_others(self, job: JobSeen) -> bool:
        """See to it that nobody else can make the job's pod any more; whether there was something to do.

        A predecessor that was cut off and does not know makes it for as long as it is sure of the admission.
        """
        confirmation = self._known.confirmation(job)
        if confirmation is None:
            return await self._confirm(job)
        if confirmation.inherited_at is None:
            return False
        sure_until = confirmation.inherited_at + self._pods.sure_for + ON_ITS_WAY
        if (left := sure_until - self._clock.now()) <= timedelta(0):
            return False
        await self._clock.sleep(left.total_seconds())
        return True

    async def _still_admitted(self, job: JobSeen, made: int) -> None:
        """Confirm an admission that may be over.

        We may have been asleep, if we wrote it too long ago; and if a request for the pod was made before, of
        which the outcome is unknown, pod and job may have come and gone meanwhile.

        Raises:
            AdmissionOverError: it is, or its pod was seen meanwhile.

        """
        again = made > 0
        while confirmation := self._known.confirmation(job):
            now = self._clock.now()
            if not again and now - confirmation.at < self._pods.sure_for:
                return
            again = False
            patch = status.confirm(confirmation.seen)
            try:
                answer = await self._kube.patch(PHJOBS, job.name, patch, subresource="status")
            except RefusedError as error:
                self._known.unconfirmed(job.uid)
                raise AdmissionOverError(str(error)) from error
            self._known.confirmed(answer, now, confirmation.inherited_at)
        raise AdmissionOverError("its job is gone, or its pod was there")

    async def _delete(
        self, resource: Resource, name: str, uid: str, *, revision: int | None = None, force: bool = False
    ) -> None:
        await self._writer.definite(
            lambda: self._kube.delete(resource, name, uid=uid, revision=revision, force=force),
            f"delete {resource.plural}",
        )
        _log.info("deleted", kind=resource.plural, name=name, uid=uid, force=force)

    async def _store_log(self, job: JobSeen, pod: PodSeen) -> bool:
        try:
            url = await self._logs.store(job, pod)
        except ArchiveError as error:
            if job.phase.final:
                await self._write(job, status.log_not_stored(job, str(error)), "log not stored")
            return False
        return url is None or await self._write(job, status.log_stored(job, url), "log stored")

    async def _explain(self, job: JobSeen, pod: PodSeen) -> None:
        """Before a pod that did not start is deleted: find out why, for it says so only while it stands."""
        wish = self._known.wish_for(job.uid)
        if wish is None or wish.event is not Event.NOT_STARTED or wish.explained:
            return
        events = await self._events(pod) if pod.reason in SILENT else []
        why = why_not_started(pod, events)
        message = f"{wish.message}; {why}" if why else wish.message
        self._known.wish(job.uid, replace(wish, message=message, explained=True))

    async def _events(self, pod: PodSeen) -> Sequence[Object]:
        """Kubernetes' events about the pod."""
        events = Resource("events", field_selector=f"involvedObject.uid={pod.uid}")
        found = await self._writer.definite(lambda: self._kube.list(events, dict), "list events")
        return found.items
