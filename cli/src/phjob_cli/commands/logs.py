"""`logs`: shows the log of a job."""

from typing import Annotated

import typer

from phjob_cli import following, queries
from phjob_cli.commands import arguments
from phjob_cli.context import Context
from phjob_core.projection import project_job_with_message


async def logs(
    context: Context,
    name: arguments.Job,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new lines until the job ends.")
    ] = False,
    attempt: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the attempt, for a job that was requeued. Default: the latest."),
    ] = None,
) -> None:
    """Show a job's log, from its pod or, if that is deleted, from the log archive."""
    job = project_job_with_message(await queries.get_job(context.kube, name))
    if follow and attempt is None and not job.phase.final:
        await following.follow_log(context, job)
    else:
        await following.write_log(context, job, attempt=attempt)
