from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.facts import a_job, a_pod

from phjob_core.errors import SettingsError
from phjob_core.labels import label_value
from phjob_pod_manager.log_archive.store import PART_BYTES, Archive, ArchiveError
from phjob_runtime.settings import LogArchive

JOB = a_job("train", group="Vision & Co", uid="u-1", requeued=1)
POD = a_pod(JOB, attempt=2)
FOLDER = label_value(JOB.group)
KEY = f"{FOLDER}/train/u-1/attempt-2.log"


def an_archive(url: str) -> Archive:
    return Archive(LogArchive(url=url))


async def chunks(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


async def test_a_log_is_stored_under_its_group_job_and_attempt(tmp_path: Path) -> None:
    """A name may be used again, so the uid is a part of the key (spec.md, L14)."""
    archive = an_archive(f"{tmp_path.as_uri()}/logs/")
    await archive.put(JOB, POD, chunks(b"line 1\n", b"line 2\n"))
    assert (tmp_path / "logs" / KEY).read_bytes() == b"line 1\nline 2\n"
    assert archive.url(JOB, POD) == f"{tmp_path.as_uri()}/logs/{KEY}"


async def test_a_long_log_is_stored_in_parts(tmp_path: Path) -> None:
    """Otherwise it would be in memory as a whole. No byte is lost between the parts."""
    content = [bytes([number]) * (PART_BYTES // 2) for number in range(5)]
    await an_archive(tmp_path.as_uri()).put(JOB, POD, chunks(*content, b"end"))
    assert (tmp_path / KEY).read_bytes() == b"".join(content) + b"end"


async def test_an_attempt_is_stored_again_in_the_same_object(tmp_path: Path) -> None:
    """A pod-manager that was killed before it wrote the URL repeats the upload."""
    archive = an_archive(tmp_path.as_uri())
    await archive.put(JOB, POD, chunks(b"a part"))
    await archive.put(JOB, POD, chunks(b"the whole"))
    assert (tmp_path / KEY).read_bytes() == b"the whole"


async def test_an_archive_that_fails_raises_one_line(tmp_path: Path) -> None:
    """It becomes a part of the job's message."""
    archive = an_archive(tmp_path.as_uri())
    (tmp_path / FOLDER).write_text("a file in the position of a folder")
    with pytest.raises(ArchiveError) as error:
        await archive.put(JOB, POD, chunks(b"line"))
    assert "\n" not in str(error.value)
    assert 0 < len(str(error.value)) <= 300


@pytest.mark.parametrize("url", ["ftp://host/logs", "nonsense://logs"])
def test_a_url_of_no_supported_store_is_a_bad_setting(url: str) -> None:
    """The service does not start with it (spec.md, S6)."""
    with pytest.raises(SettingsError, match=r"logArchive\.url: .+ \(is '"):
        an_archive(url)
