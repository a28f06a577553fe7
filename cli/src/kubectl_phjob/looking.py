"""The commands that only look: list, queue, why, explain, top.

None shows the command of a job: that is for those who ask kubectl for the whole object.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from kubectl_phjob import answers, manifests, reading, words
from kubectl_phjob.answers import AHEAD, Answer, Cause
from kubectl_phjob.app import Output, Session, command
from kubectl_phjob.complete import group_names, job_names
from kubectl_phjob.errors import Exit
from kubectl_phjob.forecast import Estimate
from kubectl_phjob.look import Facts, Held, Look
from kubectl_phjob.screen import Format, Screen, bar
from shared import resources
from shared.errors import RefusedError
from shared.kube import Object
from shared.messages import JobSeen
from shared.phjob import Phase
from shared.projection import job_seen
from shared.resources import is_gpu, render

FAR = 2**62
"""A revision later than any: a job that is only thought of comes last."""

GroupArgument = Annotated[str, typer.Argument(help="The group.", autocompletion=group_names)]
JobArgument = Annotated[str, typer.Argument(help="The job.", autocompletion=job_names)]


# --- list ---


@command("list")
async def list_jobs(
    session: Session,
    *,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="All of this group.", autocompletion=group_names)
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", "-a", help="Everybody's, of all groups.")] = False,
    phase: Annotated[Phase | None, typer.Option(help="Only those in this phase.")] = None,
    output: Output = None,
) -> None:
    """Your jobs, newest last; with --group or --all those of others too."""
    resource = reading.jobs_of(group, phase=phase or "")
    if group or everybody:
        jobs, user = await reading.everything(session.kube, resource, job_seen), None
    else:
        jobs, user = await asyncio.gather(
            reading.everything(session.kube, resource, job_seen), session.user()
        )
    jobs = sorted(
        (job for job in jobs if user in (None, job.user)), key=lambda job: (job.created, job.revision)
    )
    now = reading.now()
    if output and output.for_machines:
        session.screen.data([_summary(job) for job in jobs], output)
    elif not jobs:
        whose = f"group {group!r}" if group else f"user {user!r}" if user else "anybody"
        session.screen.note(f"no jobs of {whose} in namespace {session.kube.namespace!r}")
    else:
        headers, rows = _columns(jobs, now, wide=output is Format.WIDE)
        session.screen.table(headers, rows)


def _summary(job: JobSeen) -> dict[str, Any]:
    """A job for a program: what is known of it but its command."""
    return {
        "name": job.name,
        "uid": job.uid,
        "user": job.user,
        "group": job.group,
        "phase": job.phase,
        "reason": job.reason,
        "message": job.message,
        "image": job.image,
        "instance_type": job.instance_type,
        "created": job.created,
        "preparing_time": job.preparing_time,
        "start_time": job.start_time,
        "finish_time": job.finish_time,
        "requeued": job.requeued,
        "requeue_after": job.requeue_after,
        "node": job.node,
        "log_url": job.log_url,
    }


def _columns(jobs: Sequence[JobSeen], now: datetime, *, wide: bool) -> tuple[list[str], list[list[str]]]:
    headers = ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    rows = [
        [job.name, job.user, job.group, job.phase, job.reason, words.short_span(now - job.created)]
        for job in jobs
    ]
    if wide:
        headers += ["INSTANCE", "NODE", "RAN", "MESSAGE"]
        for job, row in zip(jobs, rows, strict=True):
            ran = (job.finish_time or now) - job.start_time if job.start_time else None
            row += [
                job.instance_type, job.node or "-", words.short_span(ran) if ran is not None else "-",
                " ".join(job.message.split()),
            ]  # fmt: skip
    return headers, rows


# --- queue ---


@command("queue")
async def queue(
    session: Session,
    group: GroupArgument,
    *,
    limit: Annotated[int, typer.Option(min=0, help="How many waiting jobs to show; 0: all.")] = 30,
    output: Output = None,
) -> None:
    """A group's queue: who holds what (jobs and notebooks), who waits in which place, and until when."""
    look = await reading.look(session.kube, group, must_exist=True)
    shown = look.line[:limit] if limit else look.line
    estimates = look.estimates([job.uid for job in shown])
    if output and output.for_machines:
        session.screen.data(_queue_data(look, shown, estimates), output)
        return
    screen = session.screen
    _say_group(screen, look)
    held = look.held()
    if held:
        screen.line()
        screen.table(
            ["HELD BY", "USER", "KIND", "AMOUNTS", "FOR", "AT MOST"], [_holder(look, h) for h in held]
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
                words.short_span(look.now - job.created), _short_estimate(estimates.get(job.uid), look.now),
                _waits_for(look, job),
            ]
            for job in shown
        ],
    )  # fmt: skip
    if len(look.line) > len(shown):
        screen.line(f"... and {len(look.line) - len(shown)} more: --limit 0 shows all")


def _say_group(screen: Screen, look: Look) -> None:
    phases = [job.seen.phase for job in look.admission.jobs.values()]
    counts = ", ".join(
        f"{phases.count(phase)} {phase.lower()}" for phase in (Phase.PENDING, Phase.PREPARING, Phase.RUNNING)
    )
    screen.line(f"Group {look.facts.name}: {counts}", "bold")
    by_notebooks: dict[str, int] = {}
    for held in look.held():
        for resource, amount in held.amounts.items() if held.notebook else ():
            by_notebooks[resource] = by_notebooks.get(resource, 0) + amount
    for resource, limit in look.queue.group_quota.items():
        used = look.queue.ledger.group.get(resource, 0)
        theirs = by_notebooks.get(resource, 0)
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


def _waits_for(look: Look, job: JobSeen) -> str:
    """In a few words: what the job itself waits for, or for whom."""
    if rest := look.rests(job):
        return f"backoff until {rest:%H:%M:%S} UTC"
    if job.uid in look.going:
        return "nothing: it goes now"
    _, numbers = look.queue.why(job.uid)
    return numbers or "those before it"


def _queue_data(look: Look, shown: Sequence[JobSeen], estimates: Any) -> dict[str, Any]:
    return {
        "group": look.facts.name,
        "waiting": len(look.line),
        "used": _rendered(look.queue.ledger.group),
        "group_quota": _rendered(look.queue.group_quota),
        "user_quota": _rendered(look.queue.user_quota),
        "held": [_held_data(held) for held in look.held()],
        "queue": [
            {
                "place": look.place(job),
                "name": job.name,
                "user": job.user,
                "needs": _rendered(look.request(job)),
                "created": job.created,
                "waits_for": _waits_for(look, job),
                "estimate": estimates.get(job.uid),
            }
            for job in shown
        ],
    }


def _held_data(held: Held) -> dict[str, Any]:
    return {
        "name": held.name,
        "user": held.user,
        "kind": "notebook" if held.notebook else "job",
        "amounts": _rendered(held.amounts),
        "since": held.since,
        "latest": held.latest,
    }


def _rendered(amounts: resources.Amounts) -> dict[str, str]:
    return {name: render(name, amount) for name, amount in amounts.items()}


# --- why ---


@command("why")
async def why(session: Session, name: JobArgument, *, output: Output = None) -> None:
    """Why a job waits (or how it is): one cause, who is ahead, when it starts, what to do."""
    job = job_seen(await reading.job(session.kube, name))
    look = await reading.look(session.kube, job.group)
    latest = next((other for other in look.facts.jobs if other.uid == job.uid), job)
    says = await reading.why_its_pod_waits(session.kube, latest) if latest.phase is Phase.PREPARING else ""
    answer = answers.why(look, latest, says)
    if output and output.for_machines:
        session.screen.data(_answer_data(answer), output)
    else:
        say(session.screen, look, answer)


def say(screen: Screen, look: Look, answer: Answer) -> None:
    """Show an answer."""
    phase = answer.phase
    since = f", for {words.span(look.now - answer.since)}" if answer.since else ""
    if answer.since and answer.cause is Cause.FINISHED:
        since = f", {words.span(look.now - answer.since)} ago"
    if len(answer.ahead) > AHEAD:
        ahead = [*answer.ahead[:AHEAD], f"and {len(answer.ahead) - AHEAD} more"]
    else:
        ahead = list(answer.ahead)
    screen.pairs(
        [
            ("Job", f"{answer.name} of {answer.user}, group {answer.group}"),
            ("Status", f"{phase}{since}"),
            ("Cause", f"{answer.cause}: {answer.why}"),
            ("Place", f"{answer.place} of {answer.waiting}" if answer.place else ""),
            ("Ahead", ahead),
            ("Held by", [_held_words(look, held, answer.lacks) for held in answer.held]),
            ("Starts", estimate_words(answer.estimate, look.now) if answer.place else ""),
            ("Next step", answer.next_step),
        ]
    )


def _held_words(look: Look, held: Held, lacks: Sequence[str]) -> str:
    kind = ", notebook" if held.notebook else ""
    end = f", {words.span(held.latest - look.now)} more at most" if held.latest else ""
    since = f"for {words.span(look.now - held.since)}"
    return f"{held.name} ({held.user}{kind}): {words.amounts(held.amounts, lacks)}, {since}{end}"


def estimate_words(estimate: Estimate | None, now: datetime) -> str:
    """When it starts, in a sentence."""
    if estimate is None:
        return "unknown"
    if estimate.p50 and estimate.p90:
        if estimate.p90 <= now:
            return "now"
        return (
            f"{words.when(estimate.p50, now)} (as likely before as after), "
            f"{words.when(estimate.p90, now)} in nine of ten cases"
        )
    if estimate.p50:
        return f"{words.when(estimate.p50, now)} (as likely before as after); at worst nobody knows"
    latest = f"; {words.when(estimate.p90, now)} at the latest, by deadlines" if estimate.p90 else ""
    return f"unknown: {estimate.unknown}{latest}"


def _short_estimate(estimate: Estimate | None, now: datetime) -> str:
    if estimate is None or not (estimate.p50 or estimate.p90):
        return "unknown"
    if estimate.p90 and estimate.p90 <= now:
        return "now"
    first = words.short_span(estimate.p50 - now) if estimate.p50 else "?"
    return f"{first}, {words.short_span(estimate.p90 - now) if estimate.p90 else '?'}"


def _answer_data(answer: Answer) -> dict[str, Any]:
    return {
        "name": answer.name,
        "user": answer.user,
        "group": answer.group,
        "phase": answer.phase,
        "reason": answer.reason,
        "cause": answer.cause,
        "why": answer.why,
        "since": answer.since,
        "place": answer.place,
        "waiting": answer.waiting if answer.place else None,
        "ahead": list(answer.ahead),
        "held": [_held_data(held) for held in answer.held],
        "lacks": list(answer.lacks),
        "estimate": answer.estimate,
        "next_step": answer.next_step,
    }


# --- explain ---

_STEPS = {
    Cause.IMPOSSIBLE: "correct that before you submit it",
    Cause.NEXT: "submit it",
}
_STEP = "submit it, and this is its place, unless others submit before"


@command("explain")
async def explain(
    session: Session,
    *,
    file: Annotated[str, typer.Option("--filename", "-f", help="A PhJob's manifest; - for standard input.")],
    output: Output = None,
) -> Exit:
    """What would become of a job, without submitting it: is it valid, does it fit, which place, when."""
    found = []
    for manifest in manifests.from_file(file, session.choice.user):
        look, answer = await _would(session, manifest)
        found.append(answer)
        if output and output.for_machines:
            continue
        if len(found) > 1:
            session.screen.line()
        say(session.screen, look, answer)
    if output and output.for_machines:
        session.screen.data([_answer_data(answer) for answer in found], output)
    return Exit.NO if any(answer.cause is Cause.IMPOSSIBLE for answer in found) else Exit.OK


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


# --- top ---


@command("top")
async def top(
    session: Session,
    *,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    output: Output = None,
) -> None:
    """All groups, live: who waits, what runs, how full the quotas are. Ctrl-C ends it."""
    screen, kube = session.screen, session.kube
    groups = (await kube.list(reading.PHGROUPS, dict)).items
    if output and output.for_machines:
        screen.data([_group_data(group) for group in groups], output)
        return
    if once or not screen.is_terminal:
        screen.table(*_group_columns(groups))
        return
    with Live(console=screen.console, screen=True, auto_refresh=False) as live:
        while True:
            title = f"{kube.namespace}, {reading.now():%H:%M:%S} UTC; Ctrl-C ends"
            lines = [title, "", *screen.columns(*_group_columns(groups))]
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            await asyncio.sleep(interval)
            groups = (await kube.list(reading.PHGROUPS, dict)).items


def _group_data(group: Object) -> dict[str, Any]:
    return {"group": _group_name(group), **(group.get("status") or {})}


def _group_name(group: Object) -> str:
    return str((group.get("spec") or {}).get("groupName") or group["metadata"]["name"])


def _group_columns(groups: Sequence[Object]) -> tuple[list[str], list[list[str]]]:
    """Those in which most wait first."""
    rows = []
    for group in sorted(groups, key=lambda g: (-(g.get("status") or {}).get("pending", 0), _group_name(g))):
        status = group.get("status") or {}
        used, limit = status.get("used") or {}, status.get("limit") or {}
        shown = [name for name in limit if name == resources.GPU or not is_gpu(name)]
        quotas = "  ".join(_quota_cell(name, used.get(name, "0"), limit[name]) for name in sorted(shown))
        counts = [str(status.get(key, "-")) for key in ("pending", "preparing", "running")]
        head, message = status.get("head") or "", status.get("message") or ""
        rows.append([_group_name(group), *counts, quotas or "no quota", f"{head}: {message}" if head else ""])
    return ["GROUP", "PENDING", "PREPARING", "RUNNING", "USED", "HEAD OF THE QUEUE"], rows


def _quota_cell(name: str, used: str, limit: str) -> str:
    share = bar(resources.parse(name, used), resources.parse(name, limit), 8)
    return f"{name} {share} {used}/{limit}"
