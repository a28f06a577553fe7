"""One job, watched until something is so; meanwhile a terminal shows how it is, or its log."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext

from kubectl_phjob import logs
from kubectl_phjob.app import Session
from kubectl_phjob.errors import CliError, Exit
from shared.errors import GoneError
from shared.kube import Resource
from shared.messages import JobSeen
from shared.phjob import GROUP, VERSION, Phase
from shared.projection import job_seen

LAST_WORDS = 5.0
"""Seconds that the log of a job that has ended may go on."""

Condition = Callable[[JobSeen], bool]


def has_run(job: JobSeen) -> bool:
    """Whether it has a log, or never will have one."""
    return job.phase is Phase.RUNNING or job.phase.final


def has_ended(job: JobSeen) -> bool:
    """Whether it is finished."""
    return job.phase.final


async def until(session: Session, job: JobSeen, done: Condition, *, quiet: bool = False) -> JobSeen:
    """The job, once it is so; unless `quiet`, show meanwhile how it is.

    Raises:
        CliError: it was deleted.

    """
    one = Resource("phjobs", GROUP, VERSION, field_selector=f"metadata.name={job.name}")
    with nullcontext() if quiet else session.screen.progress(_says(job)) as status:

        def see(seen: JobSeen) -> bool:
            if status:
                status.update(_says(seen))
            return done(seen)

        while True:
            listing = await session.kube.list(one, job_seen)
            found = next((seen for seen in listing.items if seen.uid == job.uid), None)
            if found is None:
                msg = f"job {job.name!r} was deleted"
                raise CliError(msg, Exit.NOT_FOUND)
            if see(found):
                return found
            try:
                async for kind, item in session.kube.watch(one, listing.revision):
                    if kind in ("ADDED", "MODIFIED") and see(seen := job_seen(item)):
                        return seen
                    if kind == "DELETED":
                        break
            except GoneError:
                continue


def _says(job: JobSeen) -> str:
    return f"{job.name}: {': '.join(filter(None, (job.phase, job.reason, job.message)))}"


async def follow(session: Session, job: JobSeen) -> JobSeen:
    """Show the log of a job as soon as it has one, until it ends; the job as it ended.

    A log has an end only where its node says so: one that is silent must not keep the user.
    """
    job = await until(session, job, has_run)
    if job.phase.final:
        if job.start_time:
            await show_log(session, job)
        return job
    reading = asyncio.create_task(show_log(session, job, follow=True))
    try:
        ended = await until(session, job, has_ended, quiet=True)
        await asyncio.wait([reading], timeout=LAST_WORDS)
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return ended


async def show_log(
    session: Session, job: JobSeen, *, attempt: int | None = None, follow: bool = False
) -> None:
    """Write the log out as it comes."""
    async for piece in logs.pieces(session.kube, job, attempt=attempt, follow=follow):
        session.screen.raw(piece)
