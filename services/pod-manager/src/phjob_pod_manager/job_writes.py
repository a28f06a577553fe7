"""The writes to a job itself: its status, and the deletion of its record."""

import structlog

from phjob_core.api import Object
from phjob_core.errors import RejectedError
from phjob_core.kinds import PHJOBS
from phjob_core.messages import JobSeen
from phjob_core.projection import project_job, project_job_with_message
from phjob_kube.port import Kube
from phjob_pod_manager import metrics
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.progress import WriteRejectedError
from phjob_pod_manager.status_patches import Patch
from phjob_pod_manager.store import JobStore

_log = structlog.get_logger()


class JobWriter:
    """Writes to jobs, and records each response in the store."""

    def __init__(self, kube: Kube, retrier: ApiRetrier, store: JobStore) -> None:
        self._kube = kube
        self._retrier = retrier
        self._store = store

    async def write_status(self, job: JobSeen, patch: Patch, operation: str) -> bool:
        """Apply the patch to the job's status. Returns whether it was written.

        The store has the job's current state afterwards, also if the API server rejected the patch because
        the job has changed.

        Raises:
            WriteRejectedError: the API server rejects the patch although the job is unchanged.

        """
        try:
            answer = await self._retrier.retry_until_definite(
                lambda: self._kube.patch(PHJOBS.resource, job.name, patch, subresource="status"), operation
            )
        except RejectedError as error:
            metrics.write_rejected(operation)
            _log.info("write_rejected", operation=operation, error=str(error))
            # The watch may have reported the change before the refresh. So its result is not enough.
            if await self.refresh(job) or self._store.jobs.get(job.uid) != job:
                return False
            raise WriteRejectedError(
                f"job {job.name}: the API server has rejected {operation!r}: {error}"
            ) from error
        self._record(job, answer)
        return True

    async def refresh(self, job: JobSeen) -> bool:
        """Read the job from the API server. Returns whether it has changed."""
        return self._record(job, await self._get(job.name))

    async def read_message(self, job: JobSeen) -> str:
        """Return the job's message, which facts do not contain; empty if the job is gone."""
        answer = await self._get(job.name)
        if answer is None or answer["metadata"]["uid"] != job.uid:
            return ""
        return project_job_with_message(answer).message

    async def delete_record(self, uid: str, name: str) -> None:
        """Delete the job of this uid. The watch reports its end.

        Raises:
            WriteRejectedError: the job cannot be deleted.

        """
        is_deleted = await self._retrier.retry_until_definite(
            lambda: self._kube.delete(PHJOBS.resource, name, uid=uid), "delete phjob"
        )
        if is_deleted:
            _log.info("record_deleted")
            return
        found = await self._get(name)
        if found is not None and found["metadata"]["uid"] == uid:
            raise WriteRejectedError(f"job {name}: the API server has rejected the deletion")

    async def _get(self, name: str) -> Object | None:
        """Return the job of this name from the API server; None if there is none."""
        return await self._retrier.retry_until_definite(
            lambda: self._kube.get(PHJOBS.resource, name), "get phjob"
        )

    def _record(self, job: JobSeen, answer: Object | None) -> bool:
        """Record the API server's answer. Returns whether the job has changed."""
        if answer is None or answer["metadata"]["uid"] != job.uid or answer["status"].get("reclaimed"):
            self._store.evict_job(job.uid)
            return True
        return self._store.upsert_job(project_job(answer))
