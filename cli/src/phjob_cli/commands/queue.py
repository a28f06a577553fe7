"""`queue`: shows one group's quotas, the jobs and notebooks that use them, and the pending jobs."""

from typing import Annotated

import typer

from phjob_cli import formatting, queries, serialize
from phjob_cli.commands import arguments
from phjob_cli.console import Console, bar
from phjob_cli.context import Context
from phjob_cli.snapshot import Allocation, GroupSnapshot
from phjob_core.api import Phase
from phjob_core.quantities import render


async def queue(
    context: Context,
    group: arguments.Group,
    *,
    limit: Annotated[int, typer.Option(min=0, help="Number of pending jobs to show; 0 shows all.")] = 30,
    output: arguments.Output = None,
) -> None:
    """Show a group's queue: who uses the quotas, who waits for what, and how long."""
    snapshot = await queries.take_snapshot(context.kube, group, must_exist=True)
    shown = snapshot.pending[:limit] if limit else snapshot.pending
    estimates = snapshot.estimates([job.uid for job in shown])
    if output and output.is_structured:
        context.console.data(serialize.queue(snapshot, shown, estimates), output)
        return
    console = context.console
    _print_quotas(console, snapshot)
    if allocations := snapshot.allocations():
        console.line()
        console.table(
            ["HELD BY", "USER", "KIND", "AMOUNTS", "FOR", "AT MOST"],
            [_allocation_row(snapshot, allocation) for allocation in allocations],
        )
    if notebooks := snapshot.waiting_notebooks():
        console.line()
        console.table(
            ["WAITING NOTEBOOK", "USER", "NEEDS", "AGE", "WAITS FOR"],
            [
                [
                    notebook.name, notebook.user, notebook.needs,
                    formatting.short_duration(snapshot.now - notebook.created), notebook.waits_for,
                ]
                for notebook in notebooks
            ],
        )  # fmt: skip
    console.line()
    if not shown:
        console.line("no job is pending")
        return
    console.table(
        ["PLACE", "NAME", "USER", "NEEDS", "AGE", "STARTS (P50, P90)", "WAITS FOR"],
        [
            [
                str(snapshot.position(job)), job.name, job.user, snapshot.needs(job),
                formatting.short_duration(snapshot.now - job.created),
                formatting.short_start(estimates[job.uid], snapshot.now),
                snapshot.waits_for(job),
            ]
            for job in shown
        ],
    )  # fmt: skip
    if len(snapshot.pending) > len(shown):
        console.line(f"... and {len(snapshot.pending) - len(shown)} more: --limit 0 shows all")


def _print_quotas(console: Console, snapshot: GroupSnapshot) -> None:
    """Print the jobs by phase, and the use of the quotas."""
    phases = [tracked.seen.phase for tracked in snapshot.engine.jobs.values()]
    counts = ", ".join(
        f"{phases.count(phase)} {phase.lower()}" for phase in (Phase.PENDING, Phase.PREPARING, Phase.RUNNING)
    )
    console.line(f"Group {snapshot.facts.name}: {counts}", "bold")
    notebooks = [allocation for allocation in snapshot.allocations() if allocation.is_notebook]
    for resource, limit in snapshot.queue.group_quota.items():
        used = snapshot.queue.ledger.group_usage.get(resource, 0)
        by_notebooks = sum(notebook.amounts.get(resource, 0) for notebook in notebooks)
        share = f", of that {render(resource, by_notebooks)} by notebooks" if by_notebooks else ""
        console.line(
            f"  {resource:<8} {bar(used, limit)} {render(resource, used)} of {render(resource, limit)}{share}"
        )
    if snapshot.queue.user_quota:
        quota = ", ".join(f"{name} {render(name, most)}" for name, most in snapshot.queue.user_quota.items())
        console.line(f"  each user may have {quota}")
    if snapshot.group_problem:
        console.note(f"note: this group admits no job: {snapshot.group_problem}")
    if not snapshot.facts.can_list_pods:
        console.note("note: you may not list pods here, so notebooks are not counted")


def _allocation_row(snapshot: GroupSnapshot, allocation: Allocation) -> list[str]:
    return [
        allocation.name,
        allocation.user,
        "notebook" if allocation.is_notebook else "job",
        snapshot.format_amounts(allocation.amounts),
        formatting.short_duration(snapshot.now - allocation.since),
        formatting.short_duration(allocation.latest_end - snapshot.now) if allocation.latest_end else "-",
    ]
