"""Reads a job's log: from its pod if that still exists, otherwise from the log archive."""

import re
from collections.abc import AsyncIterator

from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import UserKube
from phjob_core.api import Phase
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.messages import JobSeen
from phjob_core.pod_reading import MAIN_CONTAINER

_ATTEMPT = re.compile(r"attempt-\d+\.log$")


async def read_log(
    kube: UserKube, job: JobSeen, *, attempt: int | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """Read the log of one attempt, by default of the latest. Yields it in pieces.

    Raises:
        CliError: There is no log, or the user cannot read it. The message names the place or the cause.

    """
    latest = _latest_attempt(job)
    if attempt is not None and not 1 <= attempt <= latest:
        msg = f"job {job.name!r} has no attempt {attempt}: its latest attempt is {latest}"
        raise CliError(msg, Exit.NOT_FOUND)
    if attempt in (None, latest) and job.phase is not Phase.PENDING:
        try:
            read = kube.follow_log if follow else kube.logs
            async for piece in read(job.name, MAIN_CONTAINER):
                yield piece
        except (RejectedError, UnreachableError) as error:
            if isinstance(error, RejectedError) and error.status not in (400, 404):
                raise
            if not job.log_url:
                raise CliError(_describe_missing(job, str(error)), Exit.NOT_FOUND) from error
        else:
            return
    if not job.log_url:
        raise CliError(_describe_missing(job, "it is not archived"), Exit.NOT_FOUND)
    async for piece in _read_archived(_ATTEMPT.sub(f"attempt-{attempt or latest}.log", job.log_url)):
        yield piece


def _latest_attempt(job: JobSeen) -> int:
    """Return the number of the latest attempt that has a log, or may have one."""
    next_attempt = job.requeued + job.retried + 1
    is_waiting = job.phase is Phase.PENDING and bool(job.log_url)
    return next_attempt - 1 if is_waiting and next_attempt > 1 else next_attempt


def _describe_missing(job: JobSeen, cause: str) -> str:
    if job.phase is Phase.PENDING and not job.requeued and not job.retried:
        return f"job {job.name!r} waits: it has no log yet"
    if job.phase is Phase.PREPARING:
        return f"job {job.name!r} has not started: {cause}"
    return f"job {job.name!r} no longer has a log: {cause}"


async def _read_archived(url: str) -> AsyncIterator[bytes]:
    try:
        from phjob_cli import log_archive  # noqa: PLC0415 - its dependency is an extra
    except ModuleNotFoundError as error:
        msg = (
            f"the log is archived at {url}, but {error.name} is not installed: "
            "pip install 'kubectl-phjob[logs]'"
        )
        raise CliError(msg, Exit.NOT_FOUND) from error
    async for piece in log_archive.read(url):
        yield piece
