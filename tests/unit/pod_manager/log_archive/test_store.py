from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.fakes.facts import a_job, a_pod
from tests.support.https import https_server

from dev.pki import Pki
from phjob_core.errors import SettingsError
from phjob_core.labels import label_value
from phjob_pod_manager.log_archive.store import PART_BYTES, Archive, ArchiveError
from phjob_runtime.settings import LogArchive

JOB = a_job("train", group="Vision & Co", uid="u-1", requeued=1)
POD = a_pod(JOB, attempt=2)
FOLDER = label_value(JOB.group)
KEY = f"{FOLDER}/train/u-1/attempt-2.log"
DENIED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"""


def an_archive(url: str) -> Archive:
    return Archive(LogArchive(url=url))


def a_pki(folder: Path) -> Pki:
    pki = Pki(folder)
    pki.make()
    return pki


def use_s3(environment: pytest.MonkeyPatch, endpoint: str, ca: Path) -> None:
    """Set the variables of pod-manager's environment for an archive `s3://`."""
    environment.setenv("AWS_ENDPOINT_URL", endpoint)
    environment.setenv("AWS_REGION", "us-east-1")
    environment.setenv("AWS_ACCESS_KEY_ID", "any")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "any")
    environment.setenv("SSL_CERT_FILE", str(ca))
    environment.delenv("SSL_CERT_DIR", raising=False)


async def stored(_: web.Request) -> web.Response:
    return web.Response(headers={"ETag": '"1"'})


async def denied(_: web.Request) -> web.Response:
    return web.Response(status=403, text=DENIED)


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
    assert 0 < len(str(error.value)) <= 512


async def test_an_archive_with_a_private_ca_is_trusted_by_ssl_cert_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable replaces the certificates of the system (operate.md, Settings)."""
    pki, other = a_pki(tmp_path / "archive"), a_pki(tmp_path / "other")
    async with https_server(pki, stored) as endpoint:
        use_s3(monkeypatch, endpoint, pki.ca)
        await an_archive("s3://logs").put(JOB, POD, chunks(b"line"))
        use_s3(monkeypatch, endpoint, other.ca)
        with pytest.raises(ArchiveError, match="error sending request: InvalidCertificate "):
            await an_archive("s3://logs").put(JOB, POD, chunks(b"line"))


async def test_the_cause_of_a_failed_connection_is_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is only in the dump of the error."""
    pki = a_pki(tmp_path)
    async with https_server(pki, stored) as endpoint:
        use_s3(monkeypatch, endpoint, pki.ca)
    with pytest.raises(ArchiveError, match=r'error sending request: .*"Connection refused"$'):
        await an_archive("s3://logs").put(JOB, POD, chunks(b"line"))


async def test_the_whole_answer_of_the_archive_is_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of S3 is in the second line of its answer. A long key does not displace it."""
    pki = a_pki(tmp_path)
    async with https_server(pki, denied) as endpoint:
        use_s3(monkeypatch, endpoint, pki.ca)
        with pytest.raises(
            ArchiveError, match=r"/logs/\.\.\. in .* 403 Forbidden: .*AccessDenied.*</Error>$"
        ):
            await an_archive("s3://logs").put(JOB, POD, chunks(b"line"))


async def test_missing_certificates_are_a_bad_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of `SSL_CERT_FILE` may be missing, or the certificates of the image's base."""
    use_s3(monkeypatch, "https://archive", tmp_path / "none")
    with pytest.raises(SettingsError, match="No CA certificates were loaded from the system"):
        an_archive("s3://logs")


@pytest.mark.parametrize("url", ["ftp://host/logs", "nonsense://logs"])
def test_a_url_of_no_supported_store_is_a_bad_setting(url: str) -> None:
    """The service does not start with it (spec.md, S6)."""
    with pytest.raises(SettingsError, match=r"logArchive\.url: .+ \(is '"):
        an_archive(url)
