"""`list`: jobs, one a line, without what they run: that is for those who ask kubectl for the whole object."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from kubectl_phjob import data, reading, words
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.complete import group_names
from kubectl_phjob.screen import Format
from shared.messages import JobSeen
from shared.phjob import Phase
from shared.projection import job_seen


@command("list")
async def list_jobs(
    session: Session,
    *,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="All of this group.", autocompletion=group_names)
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", "-a", help="Everybody's, of all groups.")] = False,
    phase: Annotated[Phase | None, typer.Option(help="Only those in this phase.")] = None,
    output: arguments.Output = None,
) -> None:
    """Your jobs, newest last; with --group or --all those of others too."""
    resource = reading.jobs_of(group, phase=phase or "")
    if group or everybody:
        jobs, user = await reading.everything(session.kube, resource, job_seen), None
    else:
        jobs, user = await asyncio.gather(
            reading.everything(session.kube, resource, job_seen), session.user()
        )
    jobs = sorted(
        (job for job in jobs if user in (None, job.user)), key=lambda job: (job.created, job.revision)
    )
    if output and output.for_machines:
        session.screen.data([data.job(job) for job in jobs], output)
    elif not jobs:
        whose = f"group {group!r}" if group else f"user {user!r}" if user else "anybody"
        session.screen.note(f"no jobs of {whose} in namespace {session.kube.namespace!r}")
    else:
        session.screen.table(*_table(jobs, reading.now(), wide=output is Format.WIDE))


def _table(jobs: Sequence[JobSeen], now: datetime, *, wide: bool) -> tuple[list[str], list[list[str]]]:
    headers = ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    rows = [
        [job.name, job.user, job.group, job.phase, job.reason, words.short_span(now - job.created)]
        for job in jobs
    ]
    if wide:
        headers += ["INSTANCE", "NODE", "RAN", "MESSAGE"]
        for job, row in zip(jobs, rows, strict=True):
            ran = (job.finish_time or now) - job.start_time if job.start_time else None
            row += [
                job.instance_type, job.node or "-", words.short_span(ran) if ran is not None else "-",
                " ".join(job.message.split()),
            ]  # fmt: skip
    return headers, rows
