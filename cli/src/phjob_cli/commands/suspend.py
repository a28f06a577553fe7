"""`suspend` and `resume`: keep pending jobs out of their queue, and put them back."""

from phjob_cli.commands import arguments
from phjob_cli.commands.spec_changes import change_jobs
from phjob_cli.context import Context
from phjob_cli.errors import Exit
from phjob_core.api import Object, Phase

_NO_EFFECT = {
    Phase.PREPARING: "is Preparing: it goes on, and is suspended if it is requeued",
    Phase.RUNNING: "is Running: it goes on, and is suspended if it returns to its queue",
}


async def suspend(context: Context, names: arguments.Jobs) -> Exit:
    """Keep pending jobs from being admitted. They keep their place, and block no other job."""
    return await change_jobs(context, names, {"suspend": True}, _describe_suspension)


async def resume(context: Context, names: arguments.Jobs) -> Exit:
    """Put suspended jobs back into their queue, at their old place."""
    return await change_jobs(context, names, {"suspend": False}, _describe_resumption)


def _describe_suspension(job: Object) -> str:
    return _NO_EFFECT.get(Phase(job["status"]["phase"]), "is suspended")


def _describe_resumption(job: Object) -> str:
    return "is resumed" if job["spec"].get("suspend") else "was not suspended"
