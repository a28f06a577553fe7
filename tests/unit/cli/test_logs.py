import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.facts import START, a_job
from tests.fakes.user_kube import FakeUserKube

from phjob_cli import logs
from phjob_cli.errors import CliError, Exit
from phjob_core.api import Phase
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.messages import JobSeen

NOT_FOUND = RejectedError(404, "NotFound", 'pods "job-1" not found')


def finished(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.SUCCEEDED, start_time=START, **fields)


def without_pods() -> FakeUserKube:
    kube = FakeUserKube()
    kube.failures["pods"] = NOT_FOUND
    return kube


async def read(kube: FakeUserKube, job: JobSeen, attempt: int | None = None) -> bytes:
    return b"".join([piece async for piece in logs.read_log(kube, job, attempt=attempt)])


async def from_pod() -> AsyncIterator[bytes]:
    yield b"from "
    yield b"the pod"


def archived(folder: Path) -> str:
    """Store the logs of two attempts. Returns the URL of the second."""
    for attempt in (1, 2):
        (folder / f"attempt-{attempt}.log").write_text(f"attempt {attempt}")
    return f"{folder.as_uri()}/attempt-2.log"


async def test_the_latest_log_comes_from_the_pod(tmp_path: Path) -> None:
    """The archive is not needed while the pod exists."""
    kube = FakeUserKube()
    kube.log = from_pod()
    assert await read(kube, finished(log_url=archived(tmp_path))) == b"from the pod"
    assert kube.read == [("job-1", "main")]


async def test_a_log_comes_from_the_archive_once_the_pod_is_deleted(tmp_path: Path) -> None:
    """Earlier attempts are always there."""
    job = finished(requeued=1, log_url=archived(tmp_path))
    assert await read(without_pods(), job) == b"attempt 2"
    assert await read(FakeUserKube(), job, attempt=1) == b"attempt 1"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (a_job(), "job 'job-1' waits: it has no log yet"),
        (a_job(phase=Phase.PREPARING), "job 'job-1' has not started: pods \"job-1\" not found"),
        (finished(), "job 'job-1' no longer has a log: pods \"job-1\" not found"),
        (a_job(requeued=1), "job 'job-1' no longer has a log: it is not archived"),
    ],
)
async def test_a_missing_log_is_explained(job: JobSeen, message: str) -> None:
    """The exit code is that of something that does not exist."""
    with pytest.raises(CliError) as error:
        await read(without_pods(), job)
    assert (str(error.value), error.value.code) == (message, Exit.NOT_FOUND)


async def test_an_attempt_that_never_was_is_rejected() -> None:
    """The message names the latest."""
    with pytest.raises(CliError, match="job 'job-1' has no attempt 3: its latest attempt is 2"):
        await read(FakeUserKube(), finished(requeued=1), attempt=3)


@pytest.mark.parametrize(
    "error", [RejectedError(403, "Forbidden", "no"), RejectedError(401, "Unauthorized", "")]
)
async def test_other_errors_are_raised(error: RejectedError) -> None:
    """They do not mean that the pod has no log."""
    kube = FakeUserKube()
    kube.failures["pods"] = error
    with pytest.raises(RejectedError):
        await read(kube, finished(log_url="file:///nowhere/attempt-1.log"))


async def test_an_unreachable_node_leads_to_the_archive(tmp_path: Path) -> None:
    """The API server reads logs from the node."""
    kube = FakeUserKube()
    kube.failures["pods"] = UnreachableError("the node does not answer")
    assert await read(kube, finished(requeued=1, log_url=archived(tmp_path))) == b"attempt 2"


async def test_an_archive_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The log may still be readable from elsewhere."""
    url = f"{tmp_path.as_uri()}/attempt-1.log"
    with pytest.raises(CliError, match="which cannot be read from here") as error:
        await read(without_pods(), finished(log_url=url))
    assert url in str(error.value)
    assert error.value.code is Exit.NOT_FOUND


async def test_without_obstore_the_error_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the extra `logs` installs it."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "phjob_cli.log_archive", raising=False)
    monkeypatch.delattr("phjob_cli.log_archive", raising=False)
    url = archived(tmp_path)
    with pytest.raises(CliError) as error:
        await read(without_pods(), finished(requeued=1, log_url=url))
    assert str(error.value) == (
        f"the log is archived at {url}, but obstore is not installed: pip install 'kubectl-phjob[logs]'"
    )
    assert error.value.code is Exit.NOT_FOUND


async def test_a_retried_job_that_waits_shows_the_log_of_its_last_attempt(tmp_path: Path) -> None:
    """Its next attempt has not begun."""
    job = a_job(phase=Phase.PENDING, retried=2, log_url=archived(tmp_path))
    assert await read(without_pods(), job) == b"attempt 2"
    assert await read(without_pods(), job, attempt=1) == b"attempt 1"
    with pytest.raises(CliError, match="has no attempt 3: its latest attempt is 2"):
        await read(without_pods(), job, attempt=3)


async def test_the_attempts_of_a_job_are_its_requeues_and_retries(tmp_path: Path) -> None:
    """Both begin a new pod, and a new log."""
    job = finished(requeued=0, retried=1, log_url=archived(tmp_path))
    assert await read(without_pods(), job) == b"attempt 2"
