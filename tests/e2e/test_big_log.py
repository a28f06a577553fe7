"""A log of 100 MB is archived in S3 completely, and with little memory."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.measurements import MeasurementReporter
from tests.support.s3 import Bucket, s3_server
from tests.support.stacks import RealNode, log_archive_settings
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_node

LOG_BYTES = 100 * 1024**2
MAX_MEMORY_KIB = 200 * 1024
"""The memory of pod-manager at its peak."""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """Yield a bucket on a local S3 server."""
    with s3_server(tmp_path) as bucket:
        yield bucket


@pytest.fixture
def cluster(real_node: RealNode, bucket: Bucket, archive: Path) -> Iterator[Cluster]:
    """Let the stack archive logs in the bucket. Afterwards, it uses the folder again."""
    with cluster_on(real_node.start(f"logArchive: {{url: '{bucket.url}/hub'}}\n")) as cluster:
        yield cluster
    real_node.start(log_archive_settings(archive))


def peak_memory_kib(pid: int | None) -> int:
    """Return the most memory that the process has used so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def test_a_log_of_100_mb_is_archived_completely_with_little_memory(
    cluster: Cluster, bucket: Bucket, report_measurement: MeasurementReporter
) -> None:
    """It is uploaded in parts."""
    command = f"head -c {LOG_BYTES} /dev/zero | tr '\\0' x | fold -w 1023"
    name = GroupFixture(cluster, "big").create().submit("job", command=command)
    cluster.wait_for_phase(name, "Succeeded", within=300)
    status = eventually(
        lambda: (now := cluster.status(name)).get("logURL") and now, "the log is archived", within=300
    )
    length, sample = bucket.request("GET", status["logURL"].removeprefix(bucket.url), first_bytes=1024)
    assert sample == b"x" * 1023 + b"\n"
    assert length == LOG_BYTES + LOG_BYTES // 1023  # `fold` adds a line break to each full line.
    memory_kib = peak_memory_kib(cluster.service("pod-manager").pid)
    report_measurement(f"pod-manager's peak with a log of 100 MB: {memory_kib // 1024} MiB")
    assert memory_kib < MAX_MEMORY_KIB
