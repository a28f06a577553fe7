"""The records of finished jobs that need nothing any more: how many there are, and the oldest.

Nobody watches or holds them. They are read a page at a time, and only the oldest are kept meanwhile.
"""

import heapq
from collections.abc import Sequence

import structlog

from shared.kube import Kube, Object, Resource
from shared.messages import Record
from shared.phjob import GROUP, VERSION
from watcher import metrics
from watcher.translate import UntranslatableError, guarded, record

RECORDS = Resource("phjobs", GROUP, VERSION, field_selector="status.reclaimed=true")

_log = structlog.get_logger()


async def oldest(kube: Kube, most: int) -> tuple[int, Sequence[Record]]:
    """How many records there are, and at most `most` of them, oldest first.

    Raises:
        UnreachableError: the API server has no answer.

    """
    total = 0
    kept: list[Record] = []
    async for page in kube.pages(RECORDS):
        total += len(page)
        kept = heapq.nsmallest(most, [*kept, *_records(page)], key=lambda record: record.finish_time)
    return total, kept


def _records(page: Sequence[Object]) -> list[Record]:
    found: list[Record] = []
    for item in page:
        try:
            found.append(guarded(record, item))
        except UntranslatableError as error:
            _log.error("object_skipped", resource=RECORDS.plural, why=str(error))
            metrics.skipped(RECORDS.plural)
    return found
