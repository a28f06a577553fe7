"""The history: the reclaimed jobs that are still stored, and the oldest of them.

No service watches these jobs or keeps them in memory. The watcher reads them a page at a time, and keeps
only the oldest of those that it has read.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace

import structlog

from phjob_core.api import Object
from phjob_core.catalog_projection import ProjectionError, project_finished_job, project_or_raise
from phjob_core.kinds import PHJOBS
from phjob_core.messages import FinishedJob
from phjob_kube.port import Kube
from phjob_watcher import metrics

RECLAIMED_JOBS = replace(PHJOBS.resource, field_selector="status.reclaimed=true")

_log = structlog.get_logger()


async def oldest_finished(kube: Kube, max_jobs: int) -> tuple[int, Sequence[FinishedJob]]:
    """Return the number of reclaimed jobs, and the oldest of them, oldest first.

    Raises:
        UnreachableError: the API server does not answer.
        ExpiredError: reading all pages took too long.

    """
    total = 0
    oldest: list[FinishedJob] = []
    async for page in kube.pages(RECLAIMED_JOBS):
        total += len(page)
        oldest = heapq.nsmallest(max_jobs, [*oldest, *_project(page)], key=lambda job: job.finish_time)
    return total, oldest


def _project(page: Sequence[Object]) -> list[FinishedJob]:
    found: list[FinishedJob] = []
    for item in page:
        try:
            found.append(project_or_raise(project_finished_job, item))
        except ProjectionError as error:
            _log.error("object_skipped", resource=RECLAIMED_JOBS.plural, error=str(error))
            metrics.object_skipped(RECLAIMED_JOBS.plural)
    return found
