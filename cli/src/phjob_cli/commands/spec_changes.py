"""Changes of the specs of several jobs, independently of each other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phjob_cli import queries
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit, describe_error
from phjob_core.api import Object, Phase
from phjob_core.errors import RejectedError


async def change_jobs(
    context: Context, names: Sequence[str], fields: Mapping[str, Any], describe: Callable[[Object], str]
) -> Exit:
    """Change these fields of the spec of each job that is not finished.

    `describe` returns the outcome for the user, from a job as it was before. Returns the worst exit code.
    """
    changes = (_change(context, name, fields, describe) for name in names)
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
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


async def _change(
    context: Context, name: str, fields: Mapping[str, Any], describe: Callable[[Object], str]
) -> str:
    """Change one job. Returns the outcome for the user."""
    job = await queries.get_job(context.kube, name)
    phase = Phase(job["status"]["phase"])
    if phase.final:
        return f"is already {phase}"
    # Without the test, a job that took the name in the meantime would be changed.
    test = {"op": "test", "path": "/metadata/uid", "value": job["metadata"]["uid"]}
    sets = ({"op": "add", "path": f"/spec/{field}", "value": value} for field, value in fields.items())
    await context.kube.patch(queries.PHJOBS, name, [test, *sets])
    return describe(job)
