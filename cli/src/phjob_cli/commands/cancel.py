"""`cancel`: cancels jobs, independently of each other."""

from phjob_cli.commands import arguments
from phjob_cli.commands.spec_changes import change_jobs
from phjob_cli.context import Context
from phjob_cli.errors import Exit


async def cancel(context: Context, names: arguments.Jobs) -> Exit:
    """Cancel jobs. Pending jobs leave the queue, running jobs are stopped."""
    return await change_jobs(context, names, {"cancel": True}, lambda _: "is being cancelled")
