"""A job's log: from its pod while that stands, else from the log archive, if the user can read it.

The only module here that imports obstore. Credentials for the archive are the user's own, from the
environment, by the provider's names (`AWS_...`).
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from kubectl_phjob.access import UserKube
from kubectl_phjob.errors import CliError, Exit
from shared.errors import RefusedError, UnreachableError
from shared.messages import JobSeen
from shared.phjob import Phase
from shared.projection import MAIN

_ATTEMPT = re.compile(r"attempt-\d+\.log$")


async def pieces(
    kube: UserKube, job: JobSeen, *, attempt: int | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """The log of the job's latest try, or of the one with that number.

    Raises:
        CliError: there is none that the user can have; the text says where it is, or why there is none.

    """
    latest = job.requeued + 1
    if attempt is not None and not 1 <= attempt <= latest:
        msg = f"job {job.name!r} has been tried {latest} times: there is no attempt {attempt}"
        raise CliError(msg, Exit.NOT_FOUND)
    if attempt in (None, latest) and job.phase is not Phase.PENDING:
        try:
            async for piece in kube.follow(job.name, MAIN) if follow else kube.logs(job.name, MAIN):
                yield piece
        except (RefusedError, UnreachableError) as error:
            if isinstance(error, RefusedError) and error.status not in (400, 404):
                raise
            if not job.log_url:
                raise CliError(_why_none(job, str(error)), Exit.NOT_FOUND) from error
        else:
            return
    if not job.log_url:
        raise CliError(_why_none(job, "it is not in an archive"), Exit.NOT_FOUND)
    async for piece in _archived(_ATTEMPT.sub(f"attempt-{attempt or latest}.log", job.log_url)):
        yield piece


def _why_none(job: JobSeen, why: str) -> str:
    if job.phase is Phase.PENDING and not job.requeued:
        return f"job {job.name!r} waits: it has no log yet"
    if job.phase is Phase.PREPARING:
        return f"job {job.name!r} has not started: {why}"
    return f"job {job.name!r} has no log any more: {why}"


async def _archived(url: str) -> AsyncIterator[bytes]:
    folder, _, name = url.rpartition("/")
    try:
        store = LocalStore.from_url(folder) if folder.startswith("file:") else _remote(folder)
        found = await obstore.get_async(store, name)
        async for piece in found:
            yield bytes(piece)
    except (BaseError, OSError, ValueError) as error:
        why = str(error).strip().partition("\n")[0][:200]
        msg = f"the log is archived at {url}, which can't be read from here: {why}"
        raise CliError(msg, Exit.NOT_FOUND) from error


def _remote(folder: str) -> ObjectStore:
    return from_url(
        folder,
        # Who names an http:// endpoint means it.
        client_options={"connect_timeout": "5s", "timeout": "60s", "allow_http": True},
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=10)},
    )
