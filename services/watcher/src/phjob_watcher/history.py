"""The history: which of the finished jobs that are still stored are over a limit.

No service watches reclaimed jobs or keeps them in memory. The watcher reads them a page at a time.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import replace

import structlog

from phjob_core.api import Object
from phjob_core.catalog_projection import ProjectionError, project_or_raise, project_record
from phjob_core.history import HistorySelection, record_of
from phjob_core.kinds import PHJOBS
from phjob_core.messages import FinishedJob, HistoryLimits, JobSeen
from phjob_kube.port import Kube
from phjob_watcher import metrics

RECLAIMED_JOBS = replace(PHJOBS.resource, field_selector="status.reclaimed=true")

_log = structlog.get_logger()


async def jobs_over_limit(
    kube: Kube,
    unreclaimed: Callable[[], Iterable[JobSeen]],
    groups: Container[str],
    limits: HistoryLimits,
    most: int,
) -> tuple[int, tuple[FinishedJob, ...]]:
    """Return the number of reclaimed jobs, and the oldest finished jobs that are over a limit.

    `unreclaimed` returns the jobs that are not reclaimed. It is called after the last page: a job that was
    reclaimed in between would otherwise count twice, and another one would be deleted for it.
    `groups` has the names of all PhGroups.

    Raises:
        UnreachableError: the API server does not answer.
        ExpiredError: reading all pages took too long.

    """
    total = 0
    selection = HistorySelection(limits, most, groups)
    async for page in kube.pages(RECLAIMED_JOBS):
        total += len(page)
        for item in page:
            _add(selection, item)
    for job in unreclaimed():
        if record := record_of(job):
            selection.add(record, never_ran=job.preparing_time is None)
    return total, tuple(selection.selected())


def _add(selection: HistorySelection, item: Object) -> None:
    """Add a reclaimed job, unless it is being deleted.

    A finalizer of another program may keep such a job for as long as it likes. Without this, it would be
    deleted again and again, and would count against the records of other users.
    """
    if "deletionTimestamp" in item.get("metadata", {}):
        return
    try:
        record, never_ran = project_or_raise(project_record, item)
    except ProjectionError as error:
        _log.error("object_skipped", resource=RECLAIMED_JOBS.plural, error=str(error))
        metrics.object_skipped(RECLAIMED_JOBS.plural)
    else:
        selection.add(record, never_ran=never_ran)
