"""`cancel`: the wish that jobs end, each job for itself."""

import asyncio

from kubectl_phjob import reading
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.errors import CliError, Exit, told
from shared.errors import RefusedError
from shared.phjob import Phase


@command("cancel")
async def cancel(session: Session, names: arguments.Jobs) -> Exit:
    """Cancel jobs: those that wait leave the queue, those that run are ended."""
    answers = await asyncio.gather(*(_cancel(session, name) for name in names), return_exceptions=True)
    worst = Exit.OK
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            session.screen.line(f"{name} {answer}")
        elif isinstance(answer, CliError | RefusedError):
            message, code = told(answer)
            session.screen.note(f"error: {name}: {message}")
            worst = max(worst, code)
        else:
            raise answer
    return worst


async def _cancel(session: Session, name: str) -> str:
    job = await reading.job(session.kube, name)
    phase = Phase(job["status"]["phase"])
    if phase.final:
        return f"is {phase} already"
    wish = [
        {"op": "test", "path": "/metadata/uid", "value": job["metadata"]["uid"]},
        {"op": "add", "path": "/spec/cancel", "value": True},
    ]
    await session.kube.patch(reading.PHJOBS, name, wish)
    return "is being cancelled"
