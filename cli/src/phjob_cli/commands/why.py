"""`why` and `explain`: explain the state of a job, or of one that is not submitted."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from phjob_cli import explanation, formatting, manifests, queries, serialize
from phjob_cli.commands import arguments
from phjob_cli.console import Console
from phjob_cli.context import Context
from phjob_cli.errors import Exit
from phjob_cli.explanation import Cause, Explanation
from phjob_cli.snapshot import Allocation, Facts, GroupSnapshot
from phjob_core.api import Object, Phase
from phjob_core.errors import RejectedError
from phjob_core.projection import project_job_with_message

RECHECK_SECONDS = 3.0
"""Time before the second look at a job that has room and has not been admitted."""
LAST_REVISION = 2**62
"""A revision above all others, so that a job that is not submitted is last in its queue."""

_CORRECT_FIRST = "correct the job before you submit it"
_STEPS = {Cause.IMPOSSIBLE: _CORRECT_FIRST, Cause.NEXT: "submit it"}
_OTHER_STEP = "submit it; it gets this place unless other jobs are submitted first"


async def why(context: Context, name: arguments.Job, *, output: arguments.Output = None) -> None:
    """Explain why a job waits: cause, jobs ahead, estimated start, next step."""
    snapshot, explained = await _explain_existing(context, name)
    if explained.cause is Cause.NOT_ADMITTED:
        # The job may have got its room a moment ago.
        await asyncio.sleep(RECHECK_SECONDS)
        snapshot, explained = await _explain_existing(context, name)
    if output and output.is_structured:
        context.console.data(serialize.explanation(explained), output)
    else:
        _print_explanation(context.console, snapshot, explained)


async def explain(
    context: Context,
    *,
    file: Annotated[str, typer.Option("--filename", "-f", help="File with PhJobs; - is standard input.")],
    output: arguments.Output = None,
) -> Exit:
    """Explain a job without submitting it: validity, place, estimated start."""
    found = [
        await _explain_manifest(context, manifest)
        for manifest in manifests.from_file(file, context.options.user)
    ]
    if output and output.is_structured:
        context.console.data([serialize.explanation(explained) for _, explained in found], output)
    else:
        for index, (snapshot, explained) in enumerate(found):
            if index:
                context.console.line()
            _print_explanation(context.console, snapshot, explained)
    return Exit.FAILED if any(explained.cause is Cause.IMPOSSIBLE for _, explained in found) else Exit.OK


async def _explain_existing(context: Context, name: str) -> tuple[GroupSnapshot, Explanation]:
    job = project_job_with_message(await queries.get_job(context.kube, name))
    snapshot = await queries.take_snapshot(context.kube, job.group)
    latest = next((other for other in snapshot.facts.jobs if other.uid == job.uid), job)
    is_preparing = latest.phase is Phase.PREPARING
    problem = await queries.pod_problem(context.kube, latest) if is_preparing else ""
    return snapshot, explanation.explain(snapshot, latest, problem)


async def _explain_manifest(context: Context, manifest: Object) -> tuple[GroupSnapshot, Explanation]:
    """Explain a job that is not submitted.

    The API server validates it, before the queue counts.
    """
    name = manifest["metadata"].get("name") or "a new job"
    try:
        validated = await context.kube.create_dry_run(queries.PHJOBS, manifest)
    except RejectedError as error:
        if error.status in (401, 404):
            raise
        return _explain_rejection(manifest["spec"], name, error)
    metadata = {**validated["metadata"], "resourceVersion": str(LAST_REVISION)}
    job = project_job_with_message({**validated, "metadata": metadata, "status": {}})
    snapshot = await queries.take_snapshot(context.kube, job.group, job)
    explained = explanation.explain(snapshot, job)
    step = _STEPS.get(explained.cause, _OTHER_STEP)
    return snapshot, replace(explained, name=name, phase="not submitted", since=None, next_step=step)


def _explain_rejection(spec: Object, name: str, error: RejectedError) -> tuple[GroupSnapshot, Explanation]:
    group = str(spec.get("groupName") or "")
    explained = Explanation(
        name=name,
        user=str(spec.get("userName") or "-"),
        group=group or "-",
        phase="refused",
        reason=error.reason,
        cause=Cause.IMPOSSIBLE,
        detail=f"the API server rejects the job: {error}",
        next_step=_CORRECT_FIRST,
    )
    return GroupSnapshot(Facts(group, None, (), ()), queries.utc_now()), explained


def _print_explanation(console: Console, snapshot: GroupSnapshot, explained: Explanation) -> None:
    since = ""
    if explained.since:
        time = formatting.duration(snapshot.now - explained.since)
        since = f", {time} ago" if explained.cause is Cause.FINISHED else f", for {time}"
    ahead, more = list(explained.ahead), explained.ahead_in_all - len(explained.ahead)
    if more:
        ahead.append(f"and {more} more")
    estimate = explained.estimate
    console.pairs(
        [
            ("Job", f"{explained.name} of {explained.user}, group {explained.group}"),
            ("Status", f"{explained.phase}{since}"),
            ("Cause", f"{explained.cause}: {explained.detail}"),
            ("Place", f"{explained.position} of {explained.pending}" if explained.position else ""),
            ("Ahead", ahead),
            (
                "Held by",
                [
                    _format_allocation(snapshot, allocation, explained.short_resources)
                    for allocation in explained.allocations
                ],
            ),
            ("Starts", formatting.start(estimate, snapshot.now) if estimate else ""),
            ("Next step", explained.next_step),
        ]
    )


def _format_allocation(
    snapshot: GroupSnapshot, allocation: Allocation, short_resources: Sequence[str]
) -> str:
    kind = ", notebook" if allocation.is_notebook else ""
    amounts = snapshot.format_amounts(allocation.amounts, short_resources)
    since = f"for {formatting.duration(snapshot.now - allocation.since)}"
    latest_end = allocation.latest_end
    end = f", at most {formatting.duration(latest_end - snapshot.now)} more" if latest_end else ""
    return f"{allocation.name} ({allocation.user}{kind}): {amounts}, {since}{end}"
