"""`cancel`: cancels jobs, independently of each other."""

import asyncio

from phjob_cli import queries
from phjob_cli.commands import arguments
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit, describe_error
from phjob_core.api import Phase
from phjob_core.errors import RejectedError


async def cancel(context: Context, names: arguments.Jobs) -> Exit:
    """Cancel jobs. Pending jobs leave the queue, running jobs are stopped."""
    outcomes = await asyncio.gather(*(_cancel(context, name) for name in names), return_exceptions=True)
    worst = Exit.OK
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, str):
            context.console.line(f"{name} {outcome}")
        elif isinstance(outcome, CliError | RejectedError):
            message, code = describe_error(outcome)
            context.console.note(f"error: {name}: {message}")
            worst = max(worst, code)
        else:
            raise outcome
    return worst


async def _cancel(context: Context, name: str) -> str:
    """Cancel one job. Returns the outcome for the user."""
    job = await queries.get_job(context.kube, name)
    phase = Phase(job["status"]["phase"])
    if phase.final:
        return f"is already {phase}"
    # Without the test, a job that took the name in the meantime would be cancelled.
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": job["metadata"]["uid"]},
        {"op": "add", "path": "/spec/cancel", "value": True},
    ]
    await context.kube.patch(queries.PHJOBS, name, patch)
    return "is being cancelled"
