from pathlib import Path

import pytest

from phjob_cli import log_archive
from phjob_cli.errors import CliError, Exit


async def read(url: str) -> bytes:
    return b"".join([piece async for piece in log_archive.read(url)])


async def test_a_log_is_read_from_a_folder(tmp_path: Path) -> None:
    """A group can have a shared folder as its archive."""
    (tmp_path / "attempt-1.log").write_bytes(b"line\n" * 100_000)
    assert await read(f"{tmp_path.as_uri()}/attempt-1.log") == b"line\n" * 100_000


@pytest.mark.parametrize("url", ["{folder}/attempt-1.log", "ftp://host/attempt-1.log", "nonsense"])
async def test_an_archive_that_cannot_be_read_is_named(url: str, tmp_path: Path) -> None:
    """The log may still be readable from elsewhere."""
    url = url.format(folder=tmp_path.as_uri())
    with pytest.raises(CliError, match=r"which cannot be read from here: .+") as error:
        await read(url)
    assert str(error.value).startswith(f"the log is archived at {url},")
    assert error.value.code is Exit.NOT_FOUND
