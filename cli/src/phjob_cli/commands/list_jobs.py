"""`list`: lists jobs, one a line, without their commands."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from phjob_cli import formatting, queries, serialize
from phjob_cli.commands import arguments
from phjob_cli.completion import group_names
from phjob_cli.console import Format
from phjob_cli.context import Context
from phjob_core.api import Phase
from phjob_core.messages import JobSeen
from phjob_core.projection import project_job_with_message


async def list_jobs(
    context: Context,
    *,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", help="List all jobs of this group.", autocompletion=group_names),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", "-a", help="List all jobs of all groups.")] = False,
    phase: Annotated[Phase | None, typer.Option(help="List only jobs in this phase.")] = None,
    output: arguments.Output = None,
) -> None:
    """List your jobs, newest last; with --group or --all, those of other users too."""
    resource = queries.select_jobs(group, phase=phase or "")
    if group or everybody:
        jobs, user = await queries.list_all(context.kube, resource, project_job_with_message), None
    else:
        jobs, user = await asyncio.gather(
            queries.list_all(context.kube, resource, project_job_with_message), context.user()
        )
    jobs = sorted(
        (job for job in jobs if user in (None, job.user)), key=lambda job: (job.created, job.revision)
    )
    if output and output.is_structured:
        context.console.data([serialize.job(job) for job in jobs], output)
    elif not jobs:
        owner = f" of group {group!r}" if group else f" of user {user!r}" if user else ""
        context.console.note(f"no jobs{owner} in namespace {context.kube.namespace!r}")
    else:
        context.console.table(*_table(jobs, queries.utc_now(), wide=output is Format.WIDE))


def _table(jobs: Sequence[JobSeen], now: datetime, *, wide: bool) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows."""
    headers = ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    rows = [
        [job.name, job.user, job.group, job.phase, job.reason, formatting.short_duration(now - job.created)]
        for job in jobs
    ]
    if wide:
        headers += ["INSTANCE", "NODE", "RAN", "MESSAGE"]
        for job, row in zip(jobs, rows, strict=True):
            message = " ".join(job.message.split())
            row += [job.instance_type, job.node or "-", _run_time(job, now), message]
    return headers, rows


def _run_time(job: JobSeen, now: datetime) -> str:
    if not job.start_time:
        return "-"
    return formatting.short_duration((job.finish_time or now) - job.start_time)
