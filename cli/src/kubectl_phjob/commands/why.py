"""`why` and `explain`: what a job waits for; and the same for one that is not submitted."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from kubectl_phjob import answers, data, manifests, reading, words
from kubectl_phjob.answers import Answer, Cause
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.errors import Exit
from kubectl_phjob.look import Facts, Held, Look
from kubectl_phjob.screen import Screen
from shared.errors import RefusedError
from shared.kube import Object
from shared.phjob import Phase
from shared.projection import job_seen

AGAIN = 3.0
"""Seconds until the second look at a job that could go and has not gone."""
FAR = 2**62
"""A revision later than any: a job that is only thought of comes last."""

_STEPS = {
    Cause.IMPOSSIBLE: "correct that before you submit it",
    Cause.NEXT: "submit it",
}
_STEP = "submit it, and this is its place, unless others submit before"


@command("why")
async def why(session: Session, name: arguments.Job, *, output: arguments.Output = None) -> None:
    """Why a job waits (or how it is): one cause, who is ahead, when it starts, what to do."""
    look, answer = await _is(session, name)
    if answer.cause is Cause.NOT_ADMITTED:  # Unless it has got its room only this very moment.
        await asyncio.sleep(AGAIN)
        look, answer = await _is(session, name)
    if output and output.for_machines:
        session.screen.data(data.answer(answer), output)
    else:
        _say(session.screen, look, answer)


async def _is(session: Session, name: str) -> tuple[Look, Answer]:
    job = job_seen(await reading.job(session.kube, name))
    look = await reading.look(session.kube, job.group)
    latest = next((other for other in look.facts.jobs if other.uid == job.uid), job)
    says = await reading.why_its_pod_waits(session.kube, latest) if latest.phase is Phase.PREPARING else ""
    return look, answers.why(look, latest, says)


@command("explain")
async def explain(
    session: Session,
    *,
    file: Annotated[str, typer.Option("--filename", "-f", help="A PhJob's manifest; - for standard input.")],
    output: arguments.Output = None,
) -> Exit:
    """What would become of a job, without submitting it: is it valid, does it fit, which place, when."""
    found = [await _would(session, manifest) for manifest in manifests.from_file(file, session.choice.user)]
    if output and output.for_machines:
        session.screen.data([data.answer(answer) for _, answer in found], output)
    else:
        for number, (look, answer) in enumerate(found):
            if number:
                session.screen.line()
            _say(session.screen, look, answer)
    return Exit.NO if any(answer.cause is Cause.IMPOSSIBLE for _, answer in found) else Exit.OK


async def _would(session: Session, manifest: Object) -> tuple[Look, Answer]:
    """What would become of the job, by the API server's word and then by the queue's."""
    spec = manifest["spec"]
    named = manifest["metadata"].get("name") or "a new job"
    try:
        tried = await session.kube.try_out(reading.PHJOBS, manifest)
    except RefusedError as error:
        if error.status in (401, 404):
            raise
        group = str(spec.get("groupName") or "")
        answer = Answer(
            named, str(spec.get("userName") or "-"), group or "-", "refused", error.reason,
            Cause.IMPOSSIBLE, f"the API server refuses it: {error}", _STEPS[Cause.IMPOSSIBLE],
        )  # fmt: skip
        return Look(Facts(group, None, (), ()), reading.now()), answer
    job = job_seen({**tried, "metadata": {**tried["metadata"], "resourceVersion": str(FAR)}, "status": {}})
    look = await reading.look(session.kube, job.group, job)
    answer = answers.why(look, job)
    step = _STEPS.get(answer.cause, _STEP)
    return look, replace(answer, name=named, phase="not submitted", since=None, next_step=step)


def _say(screen: Screen, look: Look, answer: Answer) -> None:
    since = ""
    if answer.since:
        span = words.span(look.now - answer.since)
        since = f", {span} ago" if answer.cause is Cause.FINISHED else f", for {span}"
    ahead, more = list(answer.ahead), answer.ahead_in_all - len(answer.ahead)
    if more:
        ahead.append(f"and {more} more")
    screen.pairs(
        [
            ("Job", f"{answer.name} of {answer.user}, group {answer.group}"),
            ("Status", f"{answer.phase}{since}"),
            ("Cause", f"{answer.cause}: {answer.why}"),
            ("Place", f"{answer.place} of {answer.waiting}" if answer.place else ""),
            ("Ahead", ahead),
            ("Held by", [_holder(look, held, answer.lacks) for held in answer.held]),
            ("Starts", words.start(answer.estimate, look.now) if answer.estimate else ""),
            ("Next step", answer.next_step),
        ]
    )


def _holder(look: Look, held: Held, lacks: Sequence[str]) -> str:
    kind = ", notebook" if held.notebook else ""
    end = f", {words.span(held.latest - look.now)} more at most" if held.latest else ""
    since = f"for {words.span(look.now - held.since)}"
    return f"{held.name} ({held.user}{kind}): {words.amounts(held.amounts, lacks)}, {since}{end}"
