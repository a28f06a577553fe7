"""The tests' own Docker daemon: it affects no other daemon, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from dev.component import mark
from dev.containerd import bridge
from dev.docker import Docker
from dev.errors import DevError
from dev.options import default_node
from dev.paths import StackPaths
from dev.process import find_marked

pytestmark = pytest.mark.real_node


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A STATE for a daemon. Without Linux and root, the test is skipped."""
    if default_node() != "real":
        pytest.skip("a Docker daemon needs Linux and root")
    return tmp_path / "state"


def traces_of(state: Path) -> list[str]:
    """Return every process, mount and file of a daemon of this STATE."""
    paths = StackPaths(state)
    processes = [
        str(p.pid) for name, value in mark(paths.state).items() for p in find_marked(f"{name}={value}")
    ]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if paths.id in line]
    files = [Path("/sys/class/net", bridge(paths)), paths.node_data, paths.node_run]
    return [*processes, *mounts, *(str(path) for path in files if path.exists())]


def test_a_daemon_leaves_only_its_log(state: Path) -> None:
    """No process, mount, bridge or data is left, because the next test would find it."""
    with Docker(state) as docker:
        assert docker("info", "--format={{.ServerVersion}}").strip()
        assert len(traces_of(state)) >= 4
    assert traces_of(state) == []
    assert (state / "dockerd.log").exists()


def test_a_daemon_listens_only_on_its_own_socket(state: Path) -> None:
    """The machine's own daemon may have the default socket, or there is none."""
    default = Path("/var/run/docker.sock")
    before = default.stat().st_ino if default.exists() else None
    with Docker(state) as docker:
        socket = Path(docker.host.removeprefix("unix://"))
        assert socket.is_socket()
        assert socket.stat().st_uid == os.geteuid()
        assert (default.stat().st_ino if default.exists() else None) == before


def test_the_error_of_a_failed_command_has_dockers_message(state: Path) -> None:
    """It says what to correct."""
    with (
        Docker(state) as docker,
        pytest.raises(DevError, match=r"(?s)docker inspect nothing: .*No such object"),
    ):
        docker("inspect", "nothing")
