import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli import following
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit
from phjob_cli.following import has_ended, has_started_or_ended
from phjob_core.api import Object
from phjob_core.errors import ExpiredError
from phjob_core.projection import project_job

MANIFEST = builders.a_job("job-1")
STARTED = {"phase": "Running", "startTime": "2026-01-01T00:00:01Z"}


def in_phase(phase: str, **status: Any) -> dict[str, Any]:
    return stored(MANIFEST, phase=phase, **status)


def a_context_with(*jobs: Object) -> tuple[Context, FakeUserKube]:
    kube = FakeUserKube(phjobs=jobs)
    return a_context(kube), kube


async def watched(
    *events: tuple[str, Object], error: Exception | None = None
) -> AsyncIterator[tuple[str, Object]]:
    for event in events:
        yield event
    if error:
        raise error


@pytest.mark.parametrize(
    ("phase", "started", "ended"),
    [
        ("Pending", False, False),
        ("Preparing", False, False),
        ("Running", True, False),
        ("Failed", True, True),
    ],
)
def test_a_job_has_a_log_from_its_start_on(phase: str, *, started: bool, ended: bool) -> None:
    """A job that failed without a start never has one."""
    job = project_job(in_phase(phase))
    assert (has_started_or_ended(job), has_ended(job)) == (started, ended)


async def test_waiting_ends_with_the_event_that_meets_the_condition() -> None:
    """The watch begins where the list ended, and selects the job by its name."""
    context, kube = a_context_with(in_phase("Pending"))
    kube.events = [watched(("MODIFIED", in_phase("Running")), ("MODIFIED", in_phase("Succeeded")))]
    job = project_job(in_phase("Pending"))
    assert (await following.wait_until(context, job, has_ended)).phase == "Succeeded"
    assert kube.listed[0].field_selector == "metadata.name=job-1"
    assert kube.watched[0][0] == kube.listed[0]


async def test_waiting_ends_at_once_if_the_condition_holds() -> None:
    """Nothing is watched."""
    context, _ = a_context_with(in_phase("Failed"))
    job = project_job(in_phase("Pending"))
    assert (await following.wait_until(context, job, has_ended)).phase == "Failed"


async def test_an_expired_or_ended_watch_is_followed_by_another_list() -> None:
    """The API server ends each watch after some minutes, and forgets old revisions."""
    context, kube = a_context_with(in_phase("Pending"))
    kube.events = [
        watched(error=ExpiredError("too old")),
        watched(),
        watched(("MODIFIED", in_phase("Succeeded"))),
    ]
    job = project_job(in_phase("Pending"))
    assert (await following.wait_until(context, job, has_ended)).phase == "Succeeded"
    assert len(kube.listed) == 3


async def test_a_deleted_job_ends_the_wait_with_an_error() -> None:
    """A new job of the same name has another uid."""
    context, kube = a_context_with(in_phase("Pending"))
    job = project_job(in_phase("Pending"))

    async def deleted() -> AsyncIterator[tuple[str, Object]]:
        namesake = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "uid": "another"}}
        kube.objects = {"phjobs": [stored(namesake)]}
        yield "DELETED", in_phase("Pending")

    kube.events = [deleted()]
    with pytest.raises(CliError, match="job 'job-1' was deleted") as error:
        await following.wait_until(context, job, has_ended)
    assert error.value.code is Exit.NOT_FOUND


async def test_a_log_that_does_not_end_is_given_up_after_the_job(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An unresponsive node never ends the stream, and would block the command."""
    monkeypatch.setattr(following, "LOG_GRACE_SECONDS", 0.01)
    context, kube = a_context_with(stored(MANIFEST, **STARTED))

    async def endless() -> AsyncIterator[bytes]:
        yield b"line\n"
        await asyncio.Event().wait()

    kube.log = endless()
    kube.events = [watched(("MODIFIED", in_phase("Succeeded")))]
    job = await following.follow_log(context, project_job(in_phase("Pending")))
    assert job.phase == "Succeeded"
    assert capfdbinary.readouterr().out == b"line\n"


async def test_a_job_that_never_started_has_no_log_to_follow(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Its end is all there is."""
    context, _ = a_context_with(in_phase("Failed"))
    assert (await following.follow_log(context, project_job(in_phase("Pending")))).phase == "Failed"
    assert capfdbinary.readouterr().out == b""
