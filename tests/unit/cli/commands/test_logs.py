from collections.abc import AsyncIterator

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.logs import logs
from phjob_cli.errors import CliError, Exit

RUN = {"startTime": "2026-01-01T00:00:01Z"}


def a_cluster(phase: str) -> FakeUserKube:
    kube = FakeUserKube(phjobs=[stored(builders.a_job("job-1"), phase=phase, **RUN)])

    async def log() -> AsyncIterator[bytes]:
        yield b"line 1\n"
        yield b"\xff\n"

    kube.log = log()
    return kube


@pytest.mark.parametrize("follow", [False, True])
async def test_the_log_is_written_unchanged(
    capfdbinary: pytest.CaptureFixture[bytes], *, follow: bool
) -> None:
    """It may contain any bytes. A finished job has nothing to follow."""
    await logs(a_context(a_cluster("Succeeded")), "job-1", follow=follow)
    assert capfdbinary.readouterr().out == b"line 1\n\xff\n"


async def test_a_running_jobs_log_is_followed_until_its_end(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """The command ends with the job."""
    kube = a_cluster("Running")

    async def end() -> AsyncIterator[tuple[str, dict[str, object]]]:
        yield "MODIFIED", stored(builders.a_job("job-1"), phase="Succeeded", **RUN)

    kube.events = [end()]
    await logs(a_context(kube), "job-1", follow=True)
    assert capfdbinary.readouterr().out == b"line 1\n\xff\n"
    assert kube.events == []


async def test_an_attempt_that_never_was_is_rejected() -> None:
    """It cannot be followed either."""
    with pytest.raises(CliError, match="no attempt 7") as error:
        await logs(a_context(a_cluster("Running")), "job-1", follow=True, attempt=7)
    assert error.value.code is Exit.NOT_FOUND
