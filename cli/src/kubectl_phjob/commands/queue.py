"""`queue`: one group: who holds what, and who waits in which place for what, and until when."""

from typing import Annotated

import typer

from kubectl_phjob import data, reading, words
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.look import Held, Look
from kubectl_phjob.screen import Screen, bar
from shared.phjob import Phase
from shared.resources import render


@command("queue")
async def queue(
    session: Session,
    group: arguments.Group,
    *,
    limit: Annotated[int, typer.Option(min=0, help="How many waiting jobs to show; 0: all.")] = 30,
    output: arguments.Output = None,
) -> None:
    """A group's queue: who holds what (jobs and notebooks), who waits in which place, and until when."""
    look = await reading.look(session.kube, group, must_exist=True)
    shown = look.line[:limit] if limit else look.line
    estimates = look.estimates([job.uid for job in shown])
    if output and output.for_machines:
        session.screen.data(data.queue(look, shown, estimates), output)
        return
    screen = session.screen
    _say_quotas(screen, look)
    if held := look.held():
        screen.line()
        screen.table(
            ["HELD BY", "USER", "KIND", "AMOUNTS", "FOR", "AT MOST"], [_holder(look, one) for one in held]
        )
    screen.line()
    if not shown:
        screen.line("nobody waits")
        return
    screen.table(
        ["PLACE", "NAME", "USER", "NEEDS", "AGE", "STARTS (P50, P90)", "WAITS FOR"],
        [
            [
                str(look.place(job)), job.name, job.user, look.needs(job),
                words.short_span(look.now - job.created), words.short_start(estimates[job.uid], look.now),
                look.waits_for(job),
            ]
            for job in shown
        ],
    )  # fmt: skip
    if len(look.line) > len(shown):
        screen.line(f"... and {len(look.line) - len(shown)} more: --limit 0 shows all")


def _say_quotas(screen: Screen, look: Look) -> None:
    phases = [job.seen.phase for job in look.admission.jobs.values()]
    counts = ", ".join(
        f"{phases.count(phase)} {phase.lower()}" for phase in (Phase.PENDING, Phase.PREPARING, Phase.RUNNING)
    )
    screen.line(f"Group {look.facts.name}: {counts}", "bold")
    notebooks = [held for held in look.held() if held.notebook]
    for resource, limit in look.queue.group_quota.items():
        used = look.queue.ledger.group.get(resource, 0)
        theirs = sum(held.amounts.get(resource, 0) for held in notebooks)
        share = f", of that {render(resource, theirs)} by notebooks" if theirs else ""
        screen.line(
            f"  {resource:<8} {bar(used, limit)} {render(resource, used)} of {render(resource, limit)}{share}"
        )
    if look.queue.user_quota:
        each = ", ".join(f"{name} {render(name, most)}" for name, most in look.queue.user_quota.items())
        screen.line(f"  each user may have {each}")
    if not look.facts.sees_pods:
        screen.note("note: you may not list pods here, so notebooks are not counted")


def _holder(look: Look, held: Held) -> list[str]:
    return [
        held.name,
        held.user,
        "notebook" if held.notebook else "job",
        words.amounts(held.amounts),
        words.short_span(look.now - held.since),
        words.short_span(held.latest - look.now) if held.latest else "-",
    ]
