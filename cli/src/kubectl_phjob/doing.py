"""The commands that do something: submit, logs, cancel, retry."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from kubectl_phjob import logs as log_pieces
from kubectl_phjob import manifests, reading
from kubectl_phjob.app import Output, Session, command
from kubectl_phjob.complete import group_names, job_names
from kubectl_phjob.errors import CliError, Exit, told
from shared.errors import GoneError, RefusedError
from shared.kube import Object, Resource
from shared.messages import JobSeen
from shared.phjob import GROUP, VERSION, Phase
from shared.projection import job_seen

LAST_WORDS = 5.0
"""Seconds that the log of a job that has ended may go on."""

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until it ends; exit code 1 if it fails.")]
Follow = Annotated[bool, typer.Option("--follow", help="The same, and show its log meanwhile.")]
JobsArgument = Annotated[list[str], typer.Argument(help="The jobs.", autocompletion=job_names)]
JobArgument = Annotated[str, typer.Argument(help="The job.", autocompletion=job_names)]


# --- submit, retry ---


@command("submit")
async def submit(  # noqa: PLR0913 - a flag is an argument
    session: Session,
    *,
    command_words: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]")] = None,
    file: Annotated[
        str | None, typer.Option("--filename", "-f", help="PhJobs in a file; - for standard input.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", envvar="PHJOB_GROUP", help="Its group.", autocompletion=group_names),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", "-i", help="The name of an Image.")] = None,
    instance_type: Annotated[
        str | None, typer.Option("--instance-type", "-t", help="The name of an InstanceType.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="A file whose content is the command.", exists=True, dir_okay=False)
    ] = None,
    name: Annotated[str, typer.Option(help="How its name begins; the rest is made.")] = manifests.PREFIX,
    title: Annotated[str | None, typer.Option(help="Its displayName.")] = None,
    deadline: Annotated[str | None, typer.Option(help="How long it may run: 90s, 5m, 1h30m, 2d.")] = None,
    ttl: Annotated[str | None, typer.Option(help="How long its pod and log stay after its end.")] = None,
    requeue_limit: Annotated[int | None, typer.Option(min=0, help="How often it may be sent back.")] = None,
    wait: Wait = False,
    follow: Follow = False,
    output: Output = None,
) -> Exit:
    """Submit a job: from flags (kubectl phjob submit -g G -i I -t T -- python train.py) or from a file."""
    user = await session.user()
    if file:
        jobs = manifests.from_file(file, user)
    else:
        text = script.read_text() if script else shlex.join(command_words or ())
        needed = {"--group": group, "--image": image, "--instance-type": instance_type, "-- COMMAND": text}
        if missing := [flag for flag, value in needed.items() if not value]:
            msg = f"missing: {', '.join(missing)}; or give a file with -f"
            raise CliError(msg, Exit.USAGE)
        jobs = [
            manifests.from_flags(
                name, command=text, userName=user, groupName=group, image=image, instanceType=instance_type,
                displayName=title, requeueLimit=requeue_limit,
                activeDeadlineSeconds=manifests.seconds(deadline) if deadline else None,
                ttlSecondsAfterFinished=manifests.seconds(ttl) if ttl else None,
            )
        ]  # fmt: skip
    return await _submit(session, jobs, wait=wait, follow=follow, output=output)


@command("retry")
async def retry(
    session: Session,
    name: JobArgument,
    *,
    wait: Wait = False,
    follow: Follow = False,
    output: Output = None,
) -> Exit:
    """Submit a copy of a job that has ended, under a new name."""
    found = await reading.job(session.kube, name)
    if not job_seen(found).phase.final:
        msg = f"job {name!r} is {found['status']['phase']}: only one that has ended can be tried again"
        raise CliError(msg)
    return await _submit(session, [manifests.again(found)], wait=wait, follow=follow, output=output)


async def _submit(
    session: Session, jobs: Sequence[Object], *, wait: bool, follow: bool, output: Output
) -> Exit:
    created = []
    for manifest in jobs:
        job = job_seen(await session.kube.create(reading.PHJOBS, manifest))
        created.append(job)
        if not (output and output.for_machines):
            session.screen.line(f"{job.name} submitted to group {job.group}")
    if follow or wait:
        created = [await _until_end(session, job, follow=follow, quiet=bool(output)) for job in created]
    if output and output.for_machines:
        fields = ("name", "uid", "user", "group", "phase", "reason", "message")
        session.screen.data([{field: getattr(job, field) for field in fields} for job in created], output)
    bad = (follow or wait) and any(job.phase is not Phase.SUCCEEDED for job in created)
    return Exit.NO if bad else Exit.OK


async def _until_end(session: Session, job: JobSeen, *, follow: bool, quiet: bool) -> JobSeen:
    """The job as it ended; meanwhile its phases, or its log, are shown."""
    if follow:
        job = await _until(session, job, _has_run)
        if job.phase is Phase.RUNNING:
            job = await _follow(session, job)
        elif job.start_time:
            await _show_log(session, job)
    ended = await _until(session, job, lambda seen: seen.phase.final)
    if not quiet:
        said = ": ".join(filter(None, (ended.reason, ended.message)))
        session.screen.note(f"{ended.name} {ended.phase} ({said})")
    return ended


async def _until(
    session: Session, job: JobSeen, done: Callable[[JobSeen], bool], *, quiet: bool = False
) -> JobSeen:
    """Watch the job until it is so; unless `quiet`, show meanwhile how it is."""
    one = Resource("phjobs", GROUP, VERSION, field_selector=f"metadata.name={job.name}")
    with nullcontext() if quiet else session.screen.progress(_says(job)) as status:
        revision = 0
        while True:
            listing = await session.kube.list(one, job_seen)
            found = next((seen for seen in listing.items if seen.uid == job.uid), None)
            if found is None:
                msg = f"job {job.name!r} was deleted"
                raise CliError(msg, Exit.NOT_FOUND)
            if done(found):
                return found
            revision = listing.revision
            try:
                async for kind, item in session.kube.watch(one, revision):
                    if kind == "BOOKMARK":
                        continue
                    seen = job_seen(item)
                    if kind == "DELETED" or seen.uid != job.uid:
                        break
                    _show(status, seen)
                    if done(seen):
                        return seen
            except GoneError:
                continue


def _show(status: Status | None, job: JobSeen) -> None:
    if status:
        status.update(_says(job))


def _says(job: JobSeen) -> str:
    return f"{job.name}: {': '.join(filter(None, (job.phase, job.reason, job.message)))}"


# --- logs ---


@command("logs")
async def logs(
    session: Session,
    name: JobArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the job runs.")] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Of this try of a job that was sent back; default: the latest.")
    ] = None,
) -> None:
    """A job's log: from its pod while that stands, else from the log archive."""
    job = job_seen(await reading.job(session.kube, name))
    if follow and attempt is None:
        job = await _until(session, job, _has_run)
        if job.phase is Phase.RUNNING:
            await _follow(session, job)
            return
    await _show_log(session, job, attempt=attempt)


def _has_run(job: JobSeen) -> bool:
    return job.phase is Phase.RUNNING or job.phase.final


async def _follow(session: Session, job: JobSeen) -> JobSeen:
    """Show the log of a job that runs until it has ended; the job as it ended.

    A log has an end only where its node says so: one that is silent must not keep the user.
    """
    reading_log = asyncio.create_task(_show_log(session, job, follow=True))
    try:
        ended = await _until(session, job, lambda seen: seen.phase.final, quiet=True)
        await asyncio.wait([reading_log], timeout=LAST_WORDS)
        if reading_log.done():
            reading_log.result()
    finally:
        reading_log.cancel()
        await asyncio.gather(reading_log, return_exceptions=True)
    return ended


async def _show_log(
    session: Session, job: JobSeen, *, attempt: int | None = None, follow: bool = False
) -> None:
    async for piece in log_pieces.pieces(session.kube, job, attempt=attempt, follow=follow):
        session.screen.raw(piece)


# --- cancel ---


@command("cancel")
async def cancel(session: Session, names: JobsArgument) -> Exit:
    """Cancel jobs: those that wait leave the queue, those that run are ended."""
    answers = await asyncio.gather(*(_answered(_cancel(session, name)) for name in names))
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            session.screen.line(f"{name} {answer}")
        else:
            session.screen.note(f"error: {name}: {answer[0]}")
    return max((answer[1] for answer in answers if not isinstance(answer, str)), default=Exit.OK)


async def _cancel(session: Session, name: str) -> str:
    job: dict[str, Any] = dict(await reading.job(session.kube, name))
    phase = Phase(job["status"]["phase"])
    if phase.final:
        return f"is {phase} already"
    wish = [
        {"op": "test", "path": "/metadata/uid", "value": job["metadata"]["uid"]},
        {"op": "add", "path": "/spec/cancel", "value": True},
    ]
    await session.kube.patch(reading.PHJOBS, name, wish)
    return "is being cancelled"


async def _answered(work: Awaitable[str]) -> str | tuple[str, Exit]:
    """What came of it, or what went wrong: one job that can't be cancelled keeps no other."""
    try:
        return await work
    except (CliError, RefusedError) as error:
        return told(error)
