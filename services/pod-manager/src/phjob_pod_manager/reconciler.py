"""The reconciler: brings every job and its pod to the state that the job's spec and commands ask for.

It is level-triggered. Facts and commands change the store and wake the worker of one job. The worker plans
one step at a time from the store (`phjob_core.planner`), verifies it and executes it, until none is left.
Only logs are stored in the background, because each takes long. Their end wakes the worker again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from phjob_core.api import Object, Phase, Reason
from phjob_core.diagnosis import UNINFORMATIVE_REASONS, describe_start_obstacle, is_being_pulled
from phjob_core.kinds import PHJOBS
from phjob_core.lifecycle import Event, Ignored, transition
from phjob_core.messages import (
    Fact,
    GroupGone,
    GroupSeen,
    JobGone,
    JobSeen,
    NodeGone,
    NodeSeen,
    PodGone,
    PodSeen,
)
from phjob_core.planner import JobState, PendingCommand, ends_late_start, next_step, step_without_job
from phjob_core.pod_reading import Quotes
from phjob_core.pod_status import describe_end
from phjob_core.projection import project_job
from phjob_core.resource import Resource
from phjob_core.steps import (
    ApplyEvent,
    DeletePod,
    DeleteRecord,
    HoldPod,
    MarkReclaimed,
    ReleasePod,
    Step,
    StoreLog,
    Ungate,
)
from phjob_kube.port import Kube
from phjob_pod_manager import metrics, status_patches
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.catalog_cache import CatalogCache
from phjob_pod_manager.events import EventRecorder
from phjob_pod_manager.job_writes import JobWriter
from phjob_pod_manager.log_archive.archiver import MAX_CONCURRENT_LOGS, LogArchiver
from phjob_pod_manager.log_archive.store import ArchiveError
from phjob_pod_manager.pod_writes import PodWriter
from phjob_pod_manager.preconditions import Preconditions
from phjob_pod_manager.progress import Progress
from phjob_pod_manager.store import JobStore
from phjob_runtime.clock import Clock
from phjob_runtime.keyed_queue import KeyedWorkQueue

MAX_JOBS_AT_ONCE = 1000
"""The number of jobs whose workers run at the same time. After a snapshot, there is work for every job."""

_log = structlog.get_logger()


class Reconciler:
    """The workers of one shard's jobs: one job's steps in sequence, different jobs in parallel."""

    def __init__(  # noqa: PLR0913 - everything that it is wired from
        self,
        kube: Kube,
        clock: Clock,
        retrier: ApiRetrier,
        catalog: CatalogCache,
        logs: LogArchiver,
        events: EventRecorder,
        *,
        max_requeues: int = 0,
    ) -> None:
        """`max_requeues` caps the requeues of every job; 0: no cap."""
        self._kube = kube
        self._clock = clock
        self._retrier = retrier
        self._catalog = catalog
        self._logs = logs
        self._events = events
        self._max_requeues = max_requeues
        self._store = JobStore()
        self._jobs = JobWriter(kube, retrier, self._store)
        self._pods = PodWriter(kube, retrier, self._store)
        self._preconditions = Preconditions(kube, retrier, self._store, self._jobs)
        self._cancel_observed_at: dict[str, datetime] = {}
        """When each cancel that is not written yet was observed, by the uid of the job."""
        self._admissions: Counter[str] = Counter()
        """The number of `Admit` commands in execution, by the uid of the job."""
        self._pulling: set[str] = set()
        """The uids of the pods that got more time, because their image was being pulled."""
        self._synced = False
        self._workers = KeyedWorkQueue(self._reconcile, MAX_JOBS_AT_ONCE)
        self._log_workers = KeyedWorkQueue(self._store_log, MAX_CONCURRENT_LOGS)

    # --- facts, commands and timers ---

    def on_snapshot_begin(self, revisions: dict[str, int]) -> None:
        """Discard everything that is older than the coming snapshot.

        `revisions`: the revision at which each plural was listed.
        """
        self._synced = False
        self._store.reset(revisions)
        self._catalog.reset(revisions)
        self._logs.reset()
        self._cancel_observed_at.clear()
        self._pulling.clear()

    def on_snapshot_end(self) -> None:
        """Reconcile every job, and every pod whose job was deleted."""
        self._synced = True
        metrics.groups_changed(self._catalog.groups)
        for uid in self._store.job_uids():
            self._workers.add(uid)

    def on_fact(self, fact: Fact, *, from_snapshot: bool) -> None:
        """Record a fact, and wake the worker of each job that it affects."""
        store = self._store
        match fact:
            case JobSeen():
                if fact.cancel and not fact.phase.final:
                    self._cancel_observed_at.setdefault(fact.uid, self._clock.now())
                self._wake(fact.uid, changed=store.upsert_job(fact, from_snapshot=from_snapshot))
            case JobGone():
                self._cancel_observed_at.pop(fact.uid, None)
                self._wake(fact.uid, changed=store.remove_job(fact))
            case PodSeen():
                self._wake(fact.job_uid, changed=store.upsert_pod(fact, from_snapshot=from_snapshot))
            case PodGone():
                self._wake(fact.job_uid, changed=store.remove_pod(fact))
                self._logs.evict(fact.uid)
                self._pulling.discard(fact.uid)
            case NodeSeen():
                for uid in store.upsert_node(fact, from_snapshot=from_snapshot):
                    self._workers.add(uid)
            case NodeGone():
                store.remove_node(fact)
            case _:
                self._catalog.on_fact(fact, from_snapshot=from_snapshot)
                if self._synced and isinstance(fact, GroupSeen | GroupGone):
                    metrics.groups_changed(self._catalog.groups)

    def on_command(self, uid: str, command: PendingCommand) -> None:
        """Store a command of the janitor, and wake the job's worker."""
        pod, pending = self._store.pod_of(uid), self._store.pending_command(uid)
        # Without this, a repeated command would lose what was added to the message of the pending one.
        if pending is None or pending.event is not command.event:
            self._store.set_command(uid, command)
            if pod:
                self._logs.reset_retries(pod)
        self._workers.add(uid)

    def begin_admission(self, uid: str) -> None:
        """Keep the job's gated pods, because an `Admit` command is in execution."""
        self._admissions[uid] += 1

    def end_admission(self, uid: str) -> None:
        """Reconcile the job, and so delete any gated pod that it does not name."""
        self._admissions[uid] -= 1
        if not self._admissions[uid]:
            del self._admissions[uid]
        self._workers.add(uid)

    def on_pod_created(self, seen: PodSeen) -> bool:
        """Record the gated pod of an admission.

        Returns whether it exists, as far as the watch has reported.
        """
        self._store.upsert_pod(seen)
        return not self._synced or self._store.pods.get(seen.uid) is not None

    def on_admitted(self, job: Object) -> None:
        """Record a written admission, and wake the job's worker, which removes the gate."""
        seen = project_job(job)
        self._wake(seen.uid, changed=self._store.upsert_job(seen))

    def on_rejected(self, uid: str) -> None:
        """Stop tracking a job that was written Failed before it had a pod."""
        self._store.evict_job(uid)

    def next_wakeup(self) -> datetime | None:
        """Return when to try again to store a log; None if no log waits."""
        return self._logs.next_retry()

    def on_wakeup(self) -> None:
        """Wake the workers of the jobs whose logs are due."""
        for uid in self._logs.take_due():
            self._workers.add(uid)

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the reconciler holds.

        Its keys are those of `JobStore.debug_state`, and `reconciling`: the number of jobs whose worker runs
        or waits, and of logs that are being stored.
        """
        return {**self._store.debug_state(), "reconciling": len(self._workers) + len(self._log_workers)}

    async def close(self) -> None:
        """Cancel all workers."""
        await self._log_workers.close()
        await self._workers.close()
        await self._logs.close()

    def _wake(self, uid: str, *, changed: bool) -> None:
        if changed:
            self._workers.add(uid)

    # --- the planning loop of one job ---

    async def _reconcile(self, uid: str) -> None:
        """Execute one step of the job after the other, until it has to wait."""
        with bound_contextvars(job=self._store.job_name(uid), uid=uid):
            while self._synced:
                job = self._store.jobs.get(uid)
                if job is None:
                    await self._clean_up(uid)
                    return
                pod = self._store.pod_of(uid)
                log = self._logs.state(job, pod, node_lost=self._store.is_node_lost(pod))
                state = self._store.job_state(job, log, admitting=uid in self._admissions)
                step = next_step(state)
                if step is None:
                    return
                if ends_late_start(step, state):
                    await self._judge_late_start(state)
                    continue
                if not await self._preconditions.verify(step, state):
                    continue
                if await self._execute(step, state) is Progress.WAIT:
                    return

    async def _clean_up(self, uid: str) -> None:
        """Clean up after a job that was deleted or reclaimed."""
        command, pod = self._store.pending_command(uid), self._store.pod_of(uid)
        if command and command.event is Event.HISTORY_OVER:
            await self._jobs.delete_record(uid, command.name)
        self._store.drop_command(uid)
        node_lost = self._store.is_node_lost(pod)
        if pod is None or (pod.deleting and not node_lost and not pod.held):
            return
        found = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PHJOBS.resource, pod.name), "get phjob"
        )
        has_record = found is not None and found["metadata"]["uid"] == uid
        if found and has_record and not found["status"].get("reclaimed"):
            return  # The watch is about to report the job.
        match step_without_job(pod, has_record=has_record, node_lost=node_lost):
            case ReleasePod():
                await self._pods.release(pod)
            case DeletePod(force=force):
                await self._pods.delete(pod, force=force)

    async def _execute(self, step: Step, state: JobState) -> Progress:
        """Execute one step. Returns REPLAN if the next step can be planned at once."""
        job = state.job
        match step:
            case ApplyEvent():
                return await self._apply_event(job, step, state.pod)
            case Ungate():
                return await self._pods.ungate(step.pod)
            case HoldPod():
                return await self._pods.hold(step.pod)
            case ReleasePod():
                return await self._pods.release(step.pod)
            case StoreLog():
                self._logs.begin(job, step.pod)
                self._log_workers.add(job.uid)
                return Progress.WAIT
            case DeletePod():
                self._logs.record_loss(step.pod)
                if not step.force:
                    await self._logs.follow(job, step.pod)
                return await self._pods.delete(step.pod, revision=step.revision, force=step.force)
            case MarkReclaimed():
                message = f"{await self._jobs.read_message(job)}; {step.note}" if step.note else ""
                patch = status_patches.mark_reclaimed(job, message)
                await self._jobs.write_status(job, patch, "mark reclaimed")
                return Progress.REPLAN
            case DeleteRecord():
                await self._jobs.delete_record(job.uid, job.name)
                return Progress.WAIT

    # --- steps ---

    async def _apply_event(self, job: JobSeen, step: ApplyEvent, pod: PodSeen | None) -> Progress:
        """Write the transition that the event causes, and report it."""
        change = transition(job.phase, step.event)
        if isinstance(change, Ignored):
            _log.error("event_ignored", phase=job.phase, job_event=step.event, reason=change.reason)
            return Progress.WAIT
        quotes = await self._pods.read_quotes(pod) if step.quotes_pod and pod else None
        now = self._clock.now()

        def patch_with(quotes: Quotes | None) -> status_patches.Patch:
            detail = describe_end(step.event, pod, quotes) if pod and quotes else step.detail
            described = replace(step, detail=detail)
            return status_patches.apply_event(job, described, change, pod, now, self._max_requeues)

        patch = patch_with(quotes)
        if not await self._jobs.write_status(job, patch, step.event.name):
            return Progress.REPLAN
        outcome = status_patches.written_outcome(patch)
        reason = Reason.RETRIED if step.retry else change.reason or ""
        metrics.transition_written(job.group, outcome.phase, reason)
        if step.retry or step.event is not Event.POD_FAILED:  # The reason of a failed job is the user's own.
            public = status_patches.written_outcome(patch_with(quotes and quotes.without_log()))
            self._events.record(job.uid, job.name, public.reason, public.message)
        if step.event is Event.CANCELLED and (observed := self._cancel_observed_at.pop(job.uid, None)):
            metrics.job_cancelled(self._clock.now() - observed)
        if pod:
            _observe_durations(job, pod)
        # Without the message, because it may quote the job's log.
        _log.info("transition_written", group=job.group, phase=outcome.phase, reason=outcome.reason)
        return Progress.REPLAN

    async def _store_log(self, uid: str) -> None:
        """Store the log of the job's pod, and wake the job's worker."""
        job, pod = self._store.jobs.get(uid), self._store.pod_of(uid)
        if job and pod and self._logs.is_due(pod):
            with bound_contextvars(job=job.name, uid=uid):
                await self._write_log(job, pod)
        self._workers.add(uid)

    async def _write_log(self, job: JobSeen, pod: PodSeen) -> None:
        """Store the pod's log, and write its URL or the archive's error to the job."""
        try:
            url = await self._logs.store(job, pod)
        except ArchiveError as error:
            if job.phase.final:
                message = await self._jobs.read_message(job)
                patch = status_patches.set_archive_error(job, str(error), message)
                await self._jobs.write_status(job, patch, "set archive error")
            return
        if url is not None:
            message = await self._jobs.read_message(job) if job.log_failed else ""
            await self._jobs.write_status(job, status_patches.set_log_url(job, url, message), "set log URL")

    async def _judge_late_start(self, state: JobState) -> None:
        """Record why the pod has not started, which is lost with the pod, or give the pod more time.

        A pod whose image is still being pulled gets more time. So does one whose pull has ended since the
        last command, because it is about to start. The janitor repeats its command.
        """
        command, pod = state.command, state.pod
        assert command is not None and pod is not None  # noqa: S101, PT018 - `ends_late_start` has tested it
        events = await self._events_of(pod) if pod.reason in UNINFORMATIVE_REASONS else ()
        is_pulling, was_pulling = is_being_pulled(events), pod.uid in self._pulling
        self._pulling.discard(pod.uid)
        if command.spares_pulling and not pod.held and (is_pulling or was_pulling):
            if is_pulling:
                self._pulling.add(pod.uid)
            self._store.drop_command(state.job.uid)
            return
        message = "" if pod.reason in UNINFORMATIVE_REASONS else await self._pods.read_message(pod)
        why = describe_start_obstacle(pod, message, events)
        said = command.message_if_pulling if is_pulling and command.message_if_pulling else command.message
        explained = replace(command, message=f"{said}; {why}" if why else said, explained=True)
        self._store.set_command(state.job.uid, explained)

    async def _events_of(self, pod: PodSeen) -> Sequence[Object]:
        """Return the Kubernetes Events about the pod."""
        events = Resource("events", field_selector=f"involvedObject.uid={pod.uid}")
        found = await self._retrier.retry_until_definite(lambda: self._kube.list(events, dict), "list events")
        return found.items


def _observe_durations(job: JobSeen, pod: PodSeen) -> None:
    """Observe how long the container took to start, and how long it ran."""
    if pod.start_time is None:
        return
    if job.phase is Phase.PREPARING and job.preparing_time:
        metrics.container_started(pod.start_time - job.preparing_time)
    if pod.finish_time:
        metrics.container_ended(job.group, pod.finish_time - pod.start_time)
