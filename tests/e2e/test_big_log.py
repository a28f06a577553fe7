"""A log of 100 MB on its way into S3: whole, and in little memory."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hub import Hub, corner
from tests.support.measures import Measured
from tests.support.s3 import Bucket, serving
from tests.support.scene import Scene
from tests.support.stacks import RealNode, archiving_in
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

SIZE = 100 * 1024**2
MOST_MEMORY = 200 * 1024
"""KiB of the pod-manager, at its peak."""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket on a server that speaks S3."""
    with serving(tmp_path) as bucket:
        yield bucket


@pytest.fixture
def hub(real_node: RealNode, bucket: Bucket, archive: Path) -> Iterator[Hub]:
    """A corner of the stack whose pod-manager archives there; afterwards it does as before."""
    with corner(real_node.whole(f"logArchive: {{url: '{bucket.url}/hub'}}\n")) as hub:
        yield hub
    real_node.whole(archiving_in(archive))


def peak(pid: int | None) -> int:
    """The most memory that the process ever had, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def test_a_log_of_100_mb_arrives_whole_in_little_memory(hub: Hub, bucket: Bucket, measured: Measured) -> None:
    """In pieces, as S3 takes them."""
    command = f"head -c {SIZE} /dev/zero | tr '\\0' x | fold -w 1023"
    name = Scene(hub, "big").make().submit("job", command=command)
    hub.reaches(name, "Succeeded", within=300)
    status = eventually(lambda: (now := hub.status(name)).get("logURL") and now, "it is archived", within=300)
    length, sample = bucket.request("GET", status["logURL"].removeprefix(bucket.url), first=1024)
    assert sample == b"x" * 1023 + b"\n"
    assert length == SIZE + SIZE // 1023  # A line break behind each full line.
    memory = peak(hub.service("pod-manager").pid)
    measured(f"pod-manager's peak with a log of 100 MB: {memory // 1024} MiB")
    assert memory < MOST_MEMORY
