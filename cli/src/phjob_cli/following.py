"""Waits until a job has reached a state; meanwhile a terminal shows its phase, or its log."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from phjob_cli import logs, queries
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit
from phjob_core.api import Phase
from phjob_core.errors import ExpiredError
from phjob_core.messages import JobSeen
from phjob_core.projection import project_job_with_message

LOG_GRACE_SECONDS = 5.0
"""Longest time that a log is read after the end of its job."""

Condition = Callable[[JobSeen], bool]


def has_started_or_ended(job: JobSeen) -> bool:
    """Return whether the job has a log, or will never have one."""
    return job.phase is Phase.RUNNING or job.phase.final


def has_ended(job: JobSeen) -> bool:
    """Return whether the job is in a final phase."""
    return job.phase.final


async def wait_until(context: Context, job: JobSeen, condition: Condition, *, quiet: bool = False) -> JobSeen:
    """Wait until the condition holds. Returns the job in that state.

    Unless `quiet`, a terminal shows the job's phase, reason and message meanwhile.

    Raises:
        CliError: The job was deleted.

    """
    resource = replace(queries.PHJOBS, field_selector=f"metadata.name={job.name}")
    with nullcontext() if quiet else context.console.progress(_summary(job)) as show:

        def meets_condition(seen: JobSeen) -> bool:
            if show:
                show(_summary(seen))
            return condition(seen)

        while True:
            listing = await context.kube.list(resource, project_job_with_message)
            found = next((seen for seen in listing.items if seen.uid == job.uid), None)
            if found is None:
                msg = f"job {job.name!r} was deleted"
                raise CliError(msg, Exit.NOT_FOUND)
            if meets_condition(found):
                return found
            try:
                async for kind, item in context.kube.watch(resource, listing.revision):
                    if kind in ("ADDED", "MODIFIED") and meets_condition(
                        seen := project_job_with_message(item)
                    ):
                        return seen
                    if kind == "DELETED":
                        break
            except ExpiredError:
                continue


def _summary(job: JobSeen) -> str:
    return f"{job.name}: {': '.join(filter(None, (job.phase, job.reason, job.message)))}"


async def follow_log(context: Context, job: JobSeen) -> JobSeen:
    """Write the log of a job from its start to its end. Returns the ended job.

    The stream of a log ends only when the node ends it. Without the limit after the end of the job, an
    unresponsive node would block the command.
    """
    job = await wait_until(context, job, has_started_or_ended)
    if job.phase.final:
        if job.start_time:
            await write_log(context, job)
        return job
    reading = asyncio.create_task(write_log(context, job, follow=True))
    try:
        ended = await wait_until(context, job, has_ended, quiet=True)
        await asyncio.wait([reading], timeout=LOG_GRACE_SECONDS)
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return ended


async def write_log(
    context: Context, job: JobSeen, *, attempt: int | None = None, follow: bool = False
) -> None:
    """Write the log of one attempt to standard output, by default of the latest."""
    async for piece in logs.read_log(context.kube, job, attempt=attempt, follow=follow):
        context.console.write(piece)
