"""A Docker daemon of our own: it disturbs no other, and leaves nothing."""

import os
from pathlib import Path

import pytest

from dev.component import mark
from dev.containerd import bridge
from dev.docker import Docker
from dev.errors import DevError
from dev.options import default_node
from dev.process import marked
from dev.site import Site

pytestmark = pytest.mark.real_node


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """For a daemon, where there can be one."""
    if default_node() != "real":
        pytest.skip("a Docker daemon needs Linux and root")
    return tmp_path / "state"


def traces(state: Path) -> list[str]:
    """All that shows a daemon of this STATE."""
    site = Site(state)
    processes = [str(p.pid) for name, value in mark(site.state).items() for p in marked(f"{name}={value}")]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if site.id in line]
    paths = [Path("/sys/class/net", bridge(site)), site.node_data, site.node_run]
    return [*processes, *mounts, *(str(path) for path in paths if path.exists())]


def test_nothing_stays(state: Path) -> None:
    """Neither a process, nor a mount, nor a bridge, nor data; the log does."""
    with Docker(state) as docker:
        assert docker("info", "--format={{.ServerVersion}}").strip()
        assert len(traces(state)) >= 4
    assert traces(state) == []
    assert (state / "dockerd.log").exists()


def test_it_listens_on_its_own_socket_alone(state: Path) -> None:
    """Another daemon's is left as it is, or as it is not."""
    default = Path("/var/run/docker.sock")
    before = default.stat().st_ino if default.exists() else None
    with Docker(state) as docker:
        socket = Path(docker.host.removeprefix("unix://"))
        assert socket.is_socket()
        assert socket.stat().st_uid == os.geteuid()
        assert (default.stat().st_ino if default.exists() else None) == before


def test_what_docker_says_is_told(state: Path) -> None:
    """A failed command's words are the error's."""
    with (
        Docker(state) as docker,
        pytest.raises(DevError, match=r"(?s)docker inspect nothing: .*No such object"),
    ):
        docker("inspect", "nothing")
