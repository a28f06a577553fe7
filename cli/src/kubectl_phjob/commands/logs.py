"""`logs`: what a job has written."""

from typing import Annotated

import typer

from kubectl_phjob import reading, watching
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from shared.projection import job_seen


@command("logs")
async def logs(
    session: Session,
    name: arguments.Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the job runs.")] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Of this try of a job that was sent back; default: the latest.")
    ] = None,
) -> None:
    """A job's log: from its pod while that stands, else from the log archive."""
    job = job_seen(await reading.job(session.kube, name))
    if follow and attempt is None and not job.phase.final:
        await watching.follow(session, job)
    else:
        await watching.show_log(session, job, attempt=attempt)
