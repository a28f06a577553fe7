"""The cached state of jobs, their pods and the nodes, and the janitor's pending commands.

Facts, and the responses to pod-manager's own writes, update it. It assembles the `JobState` of a job, from
which `phjob_core.planner` derives the next step. It makes no request.
"""

from typing import Any

from phjob_core.kinds import NODES, PHJOBS, PODS
from phjob_core.messages import JobGone, JobSeen, NodeGone, NodeSeen, PodGone, PodSeen
from phjob_core.object_cache import ObjectCache
from phjob_core.planner import JobState, LogState, PendingCommand, is_named, is_stale

MAX_PROOFS = 10_000
"""The number of proofs of no start. Beyond it, the oldest is dropped, and its job fails instead of requeuing.

A proof for a job that was deleted before its pod stays until then.
"""


class JobStore:
    """The state of every job that still needs something."""

    def __init__(self) -> None:
        self.jobs: ObjectCache[JobSeen] = ObjectCache()
        self.pods: ObjectCache[PodSeen] = ObjectCache()
        self._nodes: ObjectCache[NodeSeen] = ObjectCache()
        self._lost_nodes: set[str] = set()
        self._pod_uids: dict[str, str] = {}
        """The uid of each job's latest pod, by the uid of the job."""
        self._commands: dict[str, PendingCommand] = {}
        """The janitor's pending commands, by the uid of the job."""
        self._ended_pods: dict[str, PodSeen] = {}
        """By the uid of the job, the last state of its deleted pod, if the pod was over in that state."""
        self._never_started: dict[str, str] = {}
        """The uid of a deleted pod with proof of no start (spec.md, L6), by the uid of its job."""

    def reset(self, revisions: dict[str, int]) -> None:
        """Discard everything that is older than the coming snapshot.

        `revisions`: the revision at which each plural was listed.
        """
        self.jobs.reset(revisions[PHJOBS.plural])
        self.pods.reset(revisions[PODS.plural])
        self._nodes.reset(revisions[NODES.plural])
        self._lost_nodes = {node.name for node in self._nodes if node.lost_since}
        by_age = sorted(self.pods, key=lambda pod: pod.resource_version)
        self._pod_uids = {pod.job_uid: pod.uid for pod in by_age}
        self._ended_pods.clear()
        self._never_started.clear()

    def job_uids(self) -> list[str]:
        """Return the uid of every job with any cached state."""
        return list(dict.fromkeys((*(job.uid for job in self.jobs), *self._pod_uids, *self._commands)))

    def debug_state(self) -> dict[str, Any]:
        """Return everything that the store holds for jobs and pods.

        Its keys are:

        - `jobs`, `pods`: the name of each cached job and pod, by uid.
        - `pending_commands`: the uids of the jobs with a pending command of the janitor.
        """
        return {
            "jobs": {job.uid: job.name for job in self.jobs},
            "pods": {pod.uid: pod.name for pod in self.pods},
            "pending_commands": list(self._commands),
        }

    # --- jobs ---

    def upsert_job(self, seen: JobSeen, *, from_snapshot: bool = False) -> bool:
        """Record a job's observed state. Returns whether it is newer than the cached one."""
        return self.jobs.upsert(seen, from_snapshot=from_snapshot, relative=self.pod_of(seen.uid))

    def remove_job(self, gone: JobGone) -> bool:
        """Remove a job that was deleted or reclaimed. Returns whether it was cached."""
        changed = self.jobs.delete(gone.uid, gone.resource_version) is not None
        if changed:
            self.evict_job(gone.uid)
        return changed

    def evict_job(self, uid: str) -> None:
        """Stop tracking a job that needs nothing more."""
        self.jobs.evict(uid)
        self._ended_pods.pop(uid, None)
        self._never_started.pop(uid, None)
        self._commands.pop(uid, None)

    def job_name(self, uid: str) -> str:
        """Return the job's name, or that of its pod or command; empty if unknown."""
        known = self.jobs.get(uid) or self.pod_of(uid) or self._commands.get(uid)
        return known.name if known else ""

    def job_state(self, job: JobSeen, log: LogState, *, admitting: bool) -> JobState:
        """Return the job with everything that its next step depends on."""
        pod = self.pod_of(job.uid) or self._ended_pod_of(job)
        return JobState(
            job,
            pod,
            self.pending_command(job.uid),
            self._has_proof_of_no_start(job),
            self.is_node_lost(pod),
            log,
            admitting,
        )

    # --- pods ---

    def upsert_pod(self, seen: PodSeen, *, from_snapshot: bool = False) -> bool:
        """Record a pod's observed state. Returns whether that concerns a job."""
        if not seen.job_uid:
            return False
        job = self.jobs.get(seen.job_uid)
        changed = self.pods.upsert(seen, from_snapshot=from_snapshot, relative=job)
        if job and job.name != seen.name:
            return False  # It claims to be the job's pod, but a job's pod has the job's name.
        cached, latest = self.pods.get(seen.uid), self.pod_of(seen.job_uid)
        if cached and (latest is None or latest.resource_version < cached.resource_version):
            self._pod_uids[seen.job_uid] = seen.uid
        return changed

    def remove_pod(self, gone: PodGone) -> bool:
        """Remove a pod that was deleted, and keep how it ended, or any proof of no start.

        Returns whether it was cached.
        """
        last = self.pods.delete(gone.uid, gone.resource_version)
        changed = last is not None
        if last and last.over and self.jobs.get(gone.job_uid):
            self._ended_pods[gone.job_uid] = last
        if changed and self._pod_uids.get(gone.job_uid) == gone.uid:
            del self._pod_uids[gone.job_uid]
        if changed and gone.never_started:
            job = self.jobs.get(gone.job_uid)
            # Without this, the end of a stray pod would replace the proof for the named pod.
            if job is None or not self._has_proof_of_no_start(job):
                self._never_started[gone.job_uid] = gone.uid
                if len(self._never_started) > MAX_PROOFS:
                    del self._never_started[next(iter(self._never_started))]
        return changed

    def pod_of(self, uid: str) -> PodSeen | None:
        """Return the job's latest pod; None if it has none."""
        return self.pods.get(self._pod_uids.get(uid, ""))

    def _ended_pod_of(self, job: JobSeen) -> PodSeen | None:
        """Return the last state of the deleted pod that the job names, if the end of that pod is not written.

        A kubelet reports the end, and removes the pod a moment later. Without this, a busy pod-manager would
        know only that the pod is gone, and a drained job would fail although it may be retried.
        """
        ended = self._ended_pods.get(job.uid)
        if ended is None:
            return None
        if not job.phase.admitted or not is_named(job, ended) or ended.held:
            del self._ended_pods[job.uid]
            return None
        return ended

    def _has_proof_of_no_start(self, job: JobSeen) -> bool:
        """Return whether the named pod is gone, with proof of no start."""
        return bool(job.pod_uid) and self._never_started.get(job.uid) == job.pod_uid

    # --- nodes ---

    def upsert_node(self, seen: NodeSeen, *, from_snapshot: bool = False) -> list[str]:
        """Record a node's observed state. Returns the uids of the jobs that it affects."""
        if not self._nodes.upsert(seen, from_snapshot=from_snapshot):
            return []
        if (seen.name in self._lost_nodes) == bool(seen.lost_since):
            return []
        if seen.lost_since:
            self._lost_nodes.add(seen.name)
        else:
            self._lost_nodes.discard(seen.name)
        return [pod.job_uid for pod in self.pods if pod.node == seen.name]

    def remove_node(self, gone: NodeGone) -> None:
        """Remove a node that was deleted. Kubernetes ends its pods."""
        if self._nodes.delete(gone.uid, gone.resource_version):
            self._lost_nodes.discard(gone.name)

    def is_node_lost(self, pod: PodSeen | None) -> bool:
        """Return whether the pod's node is lost (spec.md, L12)."""
        return pod is not None and pod.node in self._lost_nodes

    # --- commands ---

    def set_command(self, uid: str, command: PendingCommand) -> None:
        """Store the janitor's command for the job. It replaces an earlier one."""
        self._commands[uid] = command

    def drop_command(self, uid: str) -> None:
        """Drop the janitor's command for the job, if there is one."""
        self._commands.pop(uid, None)

    def pending_command(self, uid: str) -> PendingCommand | None:
        """Return the janitor's command for the job, and drop it if it is stale.

        Returns None if there is no command that can still apply.
        Without the drop, a command for a lost node would apply again when the node is lost a second time.
        """
        command, job = self._commands.get(uid), self.jobs.get(uid)
        if command and job and is_stale(job, command, node_lost=self.is_node_lost(self.pod_of(uid))):
            del self._commands[uid]
            return None
        return command
