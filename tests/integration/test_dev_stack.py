"""The local stack on real processes: it starts, mends and ends what it should, and nothing else.

The services are left out here (the end-to-end tests run them); nodes have a file of their own.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.component import mark
from dev.debian import RABBITMQ_PACKAGES, found
from dev.process import marked
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "rabbitmq")
NAMES = ("etcd", "epmd", "kube-apiserver", "rabbitmq", "kube-controller-manager", "kube-scheduler")
LOOPBACK_V4, LOOPBACK_V6 = "0100007F", "00000000000000000000000001000000"
LISTEN = "0A"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A STATE whose path has a space and a quote."""
    return tmp_path_factory.mktemp("stack") / "it's a state"


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """Control plane and broker, up."""
    with Stack(state, parts=PARTS) as stack:
        yield stack


def pids(stack: Stack) -> dict[str, int | None]:
    """Of every component; None for one that doesn't run."""
    return {name: stack.component(name).pid for name in NAMES}


def test_a_pid_file_holds_the_pid_of_the_program_itself(stack: Stack, state: Path) -> None:
    programs = {name: Path(f"/proc/{(state / f'{name}.pid').read_text().strip()}/comm").read_text() for name in NAMES}

    # The kernel keeps 15 characters of a name.
    assert programs == {name: f"{name[:15]}\n" for name in NAMES} | {"rabbitmq": "beam.smp\n"}


def test_up_leaves_alone_what_runs(stack: Stack) -> None:
    before = pids(stack)
    stack.up()

    assert pids(stack) == before
    assert None not in before.values()


@pytest.mark.parametrize("name", ["kube-scheduler", "etcd", "rabbitmq"])
def test_up_starts_again_what_was_killed_and_nothing_else(stack: Stack, name: str) -> None:
    before, url = pids(stack), stack.amqp_url
    stack.component(name).kill(signal.SIGKILL)
    assert stack.component(name).pid is None
    stack.up()

    after = pids(stack)
    assert after.pop(name) not in (None, before.pop(name))
    assert after == before
    assert stack.amqp_url == url


def test_everything_listens_on_this_machine_alone(stack: Stack) -> None:
    assert set(listening(stack)) <= {LOOPBACK_V4, LOOPBACK_V6}


def test_kubectl_reaches_the_cluster_and_the_namespace_can_take_pods(stack: Stack) -> None:
    assert stack.kubectl("--namespace=hub", "get", "serviceaccount", "default", "--output=name")


def test_a_second_stack_runs_beside_the_first_and_ends_without_it(stack: Stack, tmp_path: Path) -> None:
    before = pids(stack)
    with Stack(tmp_path / "second", parts=PARTS) as second:
        second.kubectl("create", "namespace", "only-there")
        assert not set(pids(second).values()) & set(before.values())
        assert second.amqp_url != stack.amqp_url
        assert not stack.kubectl("get", "namespace", "only-there", "--ignore-not-found")

    assert pids(stack) == before
    assert stack.kubectl("get", "namespaces")


def test_down_leaves_no_process_and_keeps_the_logs(tmp_path: Path) -> None:
    with Stack(tmp_path / "short", parts=PARTS):
        processes = running(tmp_path / "short")
        assert len(processes) >= len(NAMES)

    assert not running(tmp_path / "short")
    assert not any(process.alive() for process in processes)
    assert {path.name for path in (tmp_path / "short").iterdir()} == {"lock", *(f"{name}.log" for name in NAMES)}


def test_a_broker_and_a_cluster_of_ones_own_take_the_place_of_ours(stack: Stack, tmp_path: Path) -> None:
    with Stack(tmp_path / "guest", parts=PARTS, broker=stack.amqp_url, kubeconfig=stack.kubeconfig) as guest:
        assert not running(tmp_path / "guest")
        assert guest.amqp_url == stack.amqp_url
        assert guest.kubectl("get", "namespace", "hub")


def test_a_component_with_other_flags_is_restarted_with_them(state: Path, stack: Stack) -> None:
    before = pids(stack)
    flags = {"kube-controller-manager": ["--node-monitor-grace-period=11s"]}
    Stack(state, parts=PARTS, flags=flags).up()

    changed = {name for name, pid in pids(stack).items() if pid != before[name]}
    command = Path(f"/proc/{stack.component('kube-controller-manager').pid}/cmdline").read_text().split("\0")
    assert changed == {"kube-controller-manager"}
    assert "--node-monitor-grace-period=11s" in command


def test_the_systems_own_broker_was_not_started(stack: Stack) -> None:
    """Debian's package would start one, on the usual port, as soon as it is installed."""
    assert found(*RABBITMQ_PACKAGES)
    assert stack.component("rabbitmq").pid is not None


def running(state: Path) -> list[object]:
    """Every process of this STATE, helpers included."""
    return [process for name, value in mark(state).items() for process in marked(f"{name}={value}")]


def listening(stack: Stack) -> list[str]:
    """The local addresses, as the kernel writes them, of all sockets that the components listen on."""
    sockets = set()
    for pid in pids(stack).values():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:"):
                sockets.add(target.removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    return [line[1].partition(":")[0] for line in lines if line[3] == LISTEN and line[9] in sockets]
