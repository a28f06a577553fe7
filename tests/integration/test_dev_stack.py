"""The local stack on real processes: it starts, mends and ends what it should, and nothing else.

The services are left out here (the end-to-end tests run them); nodes have a file of their own.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.component import mark
from dev.process import Process, marked
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "rabbitmq")
NAMES = ("etcd", "epmd", "kube-apiserver", "rabbitmq", "kube-controller-manager", "kube-scheduler")
LOOPBACK_V4, LOOPBACK_V6 = "0100007F", "00000000000000000000000001000000"
LISTEN = "0A"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A STATE whose path has a space in it."""
    return tmp_path_factory.mktemp("stack") / "a state"


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """Control plane and broker, up."""
    with Stack(state, parts=PARTS) as stack:
        yield stack


def pids(stack: Stack) -> dict[str, int | None]:
    """Of every component; None for one that doesn't run."""
    return {name: stack.component(name).pid for name in NAMES}


def test_pid_files(stack: Stack, state: Path) -> None:
    """A pid file holds the pid of the program itself: `kill -9` hits it, and no wrapper of it."""
    programs = {
        name: Path(f"/proc/{(state / f'{name}.pid').read_text().strip()}/comm").read_text() for name in NAMES
    }

    # The kernel keeps 15 characters of a name.
    assert programs == {name: f"{name[:15]}\n" for name in NAMES} | {"rabbitmq": "beam.smp\n"}


def test_up_again(stack: Stack) -> None:
    """A second `up` leaves alone what runs."""
    before = pids(stack)
    stack.up()

    assert pids(stack) == before
    assert None not in before.values()


@pytest.mark.parametrize("name", ["kube-scheduler", "etcd", "rabbitmq"])
def test_up_after_a_kill(stack: Stack, name: str) -> None:
    """`up` starts again what was killed, where it was before, and nothing else."""
    before, url = pids(stack), stack.amqp_url
    stack.component(name).kill(signal.SIGKILL)
    assert stack.component(name).pid is None
    stack.up()

    after = pids(stack)
    assert after.pop(name) not in (None, before.pop(name))
    assert after == before
    assert stack.amqp_url == url


def test_loopback(stack: Stack) -> None:
    """Everything listens on this machine's loopback alone."""
    assert set(listening(stack)) <= {LOOPBACK_V4, LOOPBACK_V6}


def test_namespace(stack: Stack) -> None:
    """The namespace is there when `up` returns, and can take pods."""
    assert stack.kubectl("--namespace=hub", "get", "serviceaccount", "default", "--output=name")


def test_two_stacks(stack: Stack, tmp_path: Path) -> None:
    """A second stack runs beside the first, shares nothing with it, and ends without it."""
    before = pids(stack)
    with Stack(tmp_path / "second", parts=PARTS) as second:
        second.kubectl("create", "namespace", "only-there")
        assert not set(pids(second).values()) & set(before.values())
        assert second.amqp_url != stack.amqp_url
        assert not stack.kubectl("get", "namespace", "only-there", "--ignore-not-found")

    assert pids(stack) == before
    assert stack.kubectl("get", "namespaces")


def test_down(tmp_path: Path) -> None:
    """`down` leaves no process and no data; the logs stay."""
    with Stack(tmp_path / "short", parts=PARTS):
        processes = running(tmp_path / "short")
        assert len(processes) >= len(NAMES)

    assert not running(tmp_path / "short")
    assert not any(process.alive() for process in processes)
    assert {path.name for path in (tmp_path / "short").iterdir()} == {
        "lock",
        *(f"{name}.log" for name in NAMES),
    }


def test_given_endpoints(stack: Stack, tmp_path: Path) -> None:
    """A broker and a cluster of one's own take the place of ours."""
    with Stack(tmp_path / "guest", parts=PARTS, broker=stack.amqp_url, kubeconfig=stack.kubeconfig) as guest:
        assert not running(tmp_path / "guest")
        assert guest.amqp_url == stack.amqp_url
        assert guest.kubectl("get", "namespace", "hub")


def test_changed_flags(state: Path, stack: Stack) -> None:
    """`up` restarts a component whose command has changed, and nothing else."""
    before = pids(stack)
    flags = {"kube-controller-manager": ["--node-monitor-grace-period=11s"]}
    Stack(state, parts=PARTS, flags=flags).up()

    changed = {name for name, pid in pids(stack).items() if pid != before[name]}
    command = Path(f"/proc/{stack.component('kube-controller-manager').pid}/cmdline").read_text().split("\0")
    assert changed == {"kube-controller-manager"}
    assert "--node-monitor-grace-period=11s" in command


def running(state: Path) -> list[Process]:
    """Every process of this STATE, helpers included."""
    return [process for name, value in mark(state).items() for process in marked(f"{name}={value}")]


def listening(stack: Stack) -> list[str]:
    """The local addresses, as the kernel writes them, of all sockets that the components listen on."""
    sockets = set()
    for pid in pids(stack).values():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                sockets.add(target.removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split()
        for file in ("tcp", "tcp6")
        for line in Path("/proc/net", file).read_text().splitlines()[1:]
    ]
    return [line[1].partition(":")[0] for line in lines if line[3] == LISTEN and line[9] in sockets]
