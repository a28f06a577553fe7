"""The checks before steps that cannot be undone.

Jobs and pods come by two watches, and a snapshot lists one kind after the other. So the store may have a job
and its pod as of different moments. Before a step that cannot be undone, the API server is asked.
"""

from phjob_core.api import Phase
from phjob_core.kinds import PODS
from phjob_core.messages import JobSeen
from phjob_core.planner import JobState, is_named
from phjob_core.projection import job_uid, project_pod
from phjob_core.steps import DeletePod, ReleasePod, Step, requires_no_pod
from phjob_kube.port import Kube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.job_writes import JobWriter
from phjob_pod_manager.store import JobStore


class Preconditions:
    """The verification of planned steps against the API server."""

    def __init__(self, kube: Kube, retrier: ApiRetrier, store: JobStore, jobs: JobWriter) -> None:
        self._kube = kube
        self._retrier = retrier
        self._store = store
        self._jobs = jobs

    async def verify(self, step: Step, state: JobState) -> bool:
        """Read from the API server what the step relies on, into the store.

        Returns whether the step still applies; otherwise the next step has to be planned again.
        """
        if isinstance(step, ReleasePod) or (isinstance(step, DeletePod) and step.stray):
            return await self._verify_job(state.job)
        if requires_no_pod(step) and state.pod is None and state.job.phase is not Phase.PENDING:
            return await self._verify_no_pod(state.job)
        return True

    async def _verify_job(self, job: JobSeen) -> bool:
        """Refresh the job. Returns whether it is unchanged."""
        await self._jobs.refresh(job)
        # The watch may have reported a change during the refresh. So its result is not enough.
        return self._store.jobs.get(job.uid) == job

    async def _verify_no_pod(self, job: JobSeen) -> bool:
        """Ask for the job's pod. Returns whether there is none that matters."""
        found = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PODS.resource, job.name), "get pod"
        )
        if found is None or job_uid(found) != job.uid:
            return self._store.pod_of(job.uid) is None
        pod = project_pod(found)
        # A stray pod was created late. It changes nothing about an unfinished job.
        is_relevant = job.phase.final or is_named(job, pod)
        return not (self._store.upsert_pod(pod) and is_relevant)
