"""`submit` and `retry`: new jobs; and, if wished, what becomes of them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kubectl_phjob import data, manifests, reading, watching
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.complete import group_names
from kubectl_phjob.errors import CliError, Exit
from shared.kube import Object
from shared.messages import JobSeen
from shared.phjob import Phase
from shared.projection import job_seen

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until it ends; exit code 1 if it fails.")]
Follow = Annotated[bool, typer.Option("--follow", help="The same, and show its log meanwhile.")]


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
    output: arguments.Output = None,
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
    name: arguments.Job,
    *,
    wait: Wait = False,
    follow: Follow = False,
    output: arguments.Output = None,
) -> Exit:
    """Submit a copy of a job that has ended, under a new name."""
    found = await reading.job(session.kube, name)
    if not job_seen(found).phase.final:
        msg = f"job {name!r} is {found['status']['phase']}: only one that has ended can be tried again"
        raise CliError(msg)
    return await _submit(session, [manifests.again(found)], wait=wait, follow=follow, output=output)


async def _submit(
    session: Session, jobs: Sequence[Object], *, wait: bool, follow: bool, output: arguments.Output
) -> Exit:
    for_machines = bool(output and output.for_machines)
    created = []
    for manifest in jobs:
        job = job_seen(await session.kube.create(reading.PHJOBS, manifest))
        created.append(job)
        if not for_machines:
            session.screen.line(f"{job.name} submitted to group {job.group}")
    if follow or wait:
        created = [await _until_end(session, job, follow=follow, tell=not for_machines) for job in created]
    if for_machines and output:
        session.screen.data([data.job(job) for job in created], output)
    failed = any(job.phase.final and job.phase is not Phase.SUCCEEDED for job in created)
    return Exit.NO if failed else Exit.OK


async def _until_end(session: Session, job: JobSeen, *, follow: bool, tell: bool) -> JobSeen:
    """The job as it ended; meanwhile its phases, or its log, are shown."""
    if follow:
        ended = await watching.follow(session, job)
    else:
        ended = await watching.until(session, job, watching.has_ended)
    if tell:
        said = ": ".join(filter(None, (ended.reason, ended.message)))
        session.screen.note(f"{ended.name} {ended.phase} ({said})")
    return ended
