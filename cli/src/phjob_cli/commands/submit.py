"""`submit` and `retry`: submit jobs, and wait for their end if requested."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from phjob_cli import following, manifests, queries, serialize
from phjob_cli.commands import arguments
from phjob_cli.completion import group_names
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit
from phjob_core.api import Phase
from phjob_core.messages import JobSeen
from phjob_core.projection import project_job_with_message

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end; exit code 1 if the job fails.")]
Follow = Annotated[bool, typer.Option("--follow", help="Wait for the end, and show the log meanwhile.")]


async def submit(  # noqa: PLR0913 - Typer makes an option of each argument
    context: Context,
    *,
    command_words: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]")] = None,
    file: Annotated[
        str | None, typer.Option("--filename", "-f", help="File with PhJobs; - is standard input.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", "-g", envvar="PHJOB_GROUP", help="Group of the job.", autocompletion=group_names
        ),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", "-i", help="Name of an Image.")] = None,
    instance_type: Annotated[
        str | None, typer.Option("--instance-type", "-t", help="Name of an InstanceType.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="File whose content is the command.", exists=True, dir_okay=False)
    ] = None,
    name: Annotated[
        str, typer.Option(help="First part of the job's name; the API server adds the rest.")
    ] = manifests.DEFAULT_PREFIX,
    title: Annotated[str | None, typer.Option(help="Display name of the job.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Time the job may run: 90s, 5m, 1h30m or 2d.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Time the finished job's pod, with its log, is kept.")
    ] = None,
    requeue_limit: Annotated[
        int | None, typer.Option(min=0, help="Number of times the job may be requeued.")
    ] = None,
    wait: Wait = False,
    follow: Follow = False,
    output: arguments.Output = None,
) -> Exit:
    """Submit a job, from flags or from a file.

    With flags: kubectl phjob submit -g GROUP -i IMAGE -t INSTANCE_TYPE -- python train.py
    """
    caller = await context.caller()
    if file:
        jobs = manifests.from_file(file, caller.name)
    else:
        text = manifests.from_script(script) if script else shlex.join(command_words or ())
        required = {"--group": group, "--image": image, "--instance-type": instance_type, "-- COMMAND": text}
        if missing := [flag for flag, value in required.items() if not value]:
            msg = f"missing: {', '.join(missing)}; or give a file with -f"
            raise CliError(msg, Exit.USAGE)
        jobs = [
            manifests.from_flags(
                name, command=text, userName=caller.name, groupName=group, image=image,
                instanceType=instance_type, displayName=title, requeueLimit=requeue_limit,
                activeDeadlineSeconds=manifests.parse_seconds(deadline) if deadline else None,
                ttlSecondsAfterFinished=manifests.parse_seconds(ttl) if ttl else None,
            )
        ]  # fmt: skip
    own = [manifests.with_user_id(job, caller) for job in jobs]
    return await _submit(context, own, wait=wait, follow=follow, output=output)


async def retry(
    context: Context,
    name: arguments.Job,
    *,
    wait: Wait = False,
    follow: Follow = False,
    output: arguments.Output = None,
) -> Exit:
    """Submit a copy of a finished job, under a new name."""
    found = await queries.get_job(context.kube, name)
    if not project_job_with_message(found).phase.final:
        msg = f"job {name!r} is {found['status']['phase']}: only a finished job can be retried"
        raise CliError(msg)
    copy = manifests.with_user_id(manifests.copy_for_retry(found), await context.caller())
    return await _submit(context, [copy], wait=wait, follow=follow, output=output)


async def _submit(
    context: Context, phjobs: Sequence[dict[str, Any]], *, wait: bool, follow: bool, output: arguments.Output
) -> Exit:
    """Create the jobs, and wait for their end if requested.

    Returns FAILED if one of them did not succeed.
    """
    group_ids = await queries.group_ids(context.kube)
    phjobs = [manifests.with_group_id(phjob, group_ids) for phjob in phjobs]
    is_structured = bool(output and output.is_structured)
    jobs = []
    for phjob in phjobs:
        job = project_job_with_message(await context.kube.create(queries.PHJOBS, phjob))
        jobs.append(job)
        if not is_structured:
            context.console.line(f"{job.name} submitted to group {job.group}")
    if follow or wait:
        jobs = [await _wait_for_end(context, job, follow=follow, quiet=is_structured) for job in jobs]
    if is_structured and output:
        context.console.data([serialize.job(job) for job in jobs], output)
    failed = any(job.phase.final and job.phase is not Phase.SUCCEEDED for job in jobs)
    return Exit.FAILED if failed else Exit.OK


async def _wait_for_end(context: Context, job: JobSeen, *, follow: bool, quiet: bool) -> JobSeen:
    """Show the job's phases, or its log, until its end. Returns the finished job."""
    if follow:
        finished = await following.follow_log(context, job)
    else:
        finished = await following.wait_until(context, job, following.has_ended)
    if not quiet:
        outcome = ": ".join(filter(None, (finished.reason, finished.message)))
        context.console.note(f"{finished.name} {finished.phase} ({outcome})")
    return finished
