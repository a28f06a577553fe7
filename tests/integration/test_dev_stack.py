"""The local stack with real processes: it starts, repairs and ends its own components, and nothing else.

The end-to-end tests run the services, and `test_dev_node.py` the nodes.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import rights
from dev.component import mark
from dev.errors import DevError
from dev.kubectl import Kubectl
from dev.paths import StackPaths
from dev.process import Process, find_marked
from dev.services import SERVICES
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "rabbitmq")
COMPONENTS = ("etcd", "epmd", "kube-apiserver", "rabbitmq", "kube-controller-manager", "kube-scheduler")
LOOPBACK_V4, LOOPBACK_V6 = "0100007F", "00000000000000000000000001000000"
LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A STATE whose path has a space in it."""
    return tmp_path_factory.mktemp("stack") / "a state"


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """A stack with control plane and broker."""
    with Stack(state, parts=PARTS) as stack:
        yield stack


def pids(stack: Stack) -> dict[str, int | None]:
    """Return the pid of every component; None for one that does not run."""
    return {name: stack.component(name).pid for name in COMPONENTS}


def test_a_pid_file_has_the_pid_of_the_program_itself(stack: Stack, state: Path) -> None:
    """`kill -9` would otherwise end only a wrapper."""
    programs = {
        name: Path(f"/proc/{(state / f'{name}.pid').read_text().strip()}/comm").read_text()
        for name in COMPONENTS
    }

    # The kernel keeps 15 characters of a name.
    assert programs == {name: f"{name[:15]}\n" for name in COMPONENTS} | {"rabbitmq": "beam.smp\n"}


def test_a_second_up_restarts_nothing(stack: Stack) -> None:
    """Every component keeps its process."""
    before = pids(stack)
    stack.up()

    assert pids(stack) == before
    assert None not in before.values()


@pytest.mark.parametrize("name", ["kube-scheduler", "etcd", "rabbitmq"])
def test_up_restarts_only_a_killed_component(stack: Stack, name: str) -> None:
    """The component gets its old ports, because others connect to them."""
    before, url = pids(stack), stack.amqp_url
    stack.component(name).kill(signal.SIGKILL)
    assert stack.component(name).pid is None
    stack.up()

    after = pids(stack)
    assert after.pop(name) not in (None, before.pop(name))
    assert after == before
    assert stack.amqp_url == url


def test_components_listen_only_on_the_loopback_interface(stack: Stack) -> None:
    """No other machine can reach the stack."""
    assert set(listening(stack)) <= {LOOPBACK_V4, LOOPBACK_V6}


def test_pods_can_be_created_when_up_returns(stack: Stack) -> None:
    """The namespace exists, and its default service account, without which pods are rejected."""
    assert stack.kubectl("--namespace=hub", "get", "serviceaccount", "default", "--output=name")


def test_two_stacks_are_independent(stack: Stack, tmp_path: Path) -> None:
    """They share no process, and the end of one leaves the other running."""
    before = pids(stack)
    with Stack(tmp_path / "second", parts=PARTS) as second:
        second.kubectl("create", "namespace", "only-there")
        assert not set(pids(second).values()) & set(before.values())
        assert second.amqp_url != stack.amqp_url
        assert not stack.kubectl("get", "namespace", "only-there", "--ignore-not-found")

    assert pids(stack) == before
    assert stack.kubectl("get", "namespaces")


def test_down_leaves_only_the_logs(tmp_path: Path) -> None:
    """No process and no data is left."""
    with Stack(tmp_path / "short", parts=PARTS):
        processes = running(tmp_path / "short")
        assert len(processes) >= len(COMPONENTS)

    assert not running(tmp_path / "short")
    assert not any(process.is_alive() for process in processes)
    assert {path.name for path in (tmp_path / "short").iterdir()} == {
        "lock",
        *(f"{name}.log" for name in COMPONENTS),
    }


def test_a_given_broker_and_cluster_are_used(stack: Stack, tmp_path: Path) -> None:
    """The stack then starts none of its own."""
    with Stack(tmp_path / "guest", parts=PARTS, broker=stack.amqp_url, kubeconfig=stack.kubeconfig) as guest:
        assert not running(tmp_path / "guest")
        assert guest.amqp_url == stack.amqp_url
        assert guest.kubectl("get", "namespace", "hub")


def credentials(stack: Stack) -> dict[str, str | None]:
    """Return the kubeconfig of each service that the stack would start."""
    return {name: stack.component(name).spec.env.get("KUBECONFIG") for name in SERVICES}


@pytest.mark.parametrize("service", rights.WITH_KUBERNETES)
def test_a_service_has_its_own_account_with_limited_rights(stack: Stack, state: Path, service: str) -> None:
    """As in an installation with the chart, so that a missing right is found in the local stack."""
    kubectl = Kubectl(Path(credentials(Stack(state))[service] or ""))
    user_info = json.loads(kubectl("auth", "whoami", "--output=json"))["status"]["userInfo"]

    assert user_info["username"] == rights.user(service)
    assert set(user_info["groups"]) == {*rights.GROUPS.split(","), "system:authenticated"}
    allowed = {"watcher": "list phjobs", "pod-manager": "create pods"}[service].split()
    assert kubectl("--namespace=hub", "auth", "can-i", *allowed) == "yes\n"
    with pytest.raises(DevError, match="Forbidden"):
        kubectl("--namespace=hub", "get", "secrets")


def test_no_service_is_an_administrator_of_the_stacks_own_cluster(
    state: Path, stack: Stack, tmp_path: Path
) -> None:
    """In a given cluster, the services use a copy of the given kubeconfig."""
    ours = credentials(Stack(state))
    theirs = credentials(Stack(tmp_path, broker=stack.amqp_url, kubeconfig=stack.kubeconfig))

    assert {name for name, file in ours.items() if file} == {*rights.WITH_KUBERNETES}
    assert str(stack.kubeconfig) not in ours.values()
    copy = str(StackPaths(tmp_path).kubeconfig)
    assert theirs == {name: copy if file else None for name, file in ours.items()}


def test_up_restarts_only_a_component_whose_command_has_changed(state: Path, stack: Stack) -> None:
    """Here it has another flag."""
    before = pids(stack)
    flags = {"kube-controller-manager": ["--node-monitor-grace-period=11s"]}
    Stack(state, parts=PARTS, flags=flags).up()

    changed = {name for name, pid in pids(stack).items() if pid != before[name]}
    command = Path(f"/proc/{stack.component('kube-controller-manager').pid}/cmdline").read_text().split("\0")
    assert changed == {"kube-controller-manager"}
    assert "--node-monitor-grace-period=11s" in command


def running(state: Path) -> list[Process]:
    """Return every process of this STATE, helpers included."""
    return [process for name, value in mark(state).items() for process in find_marked(f"{name}={value}")]


def listening(stack: Stack) -> list[str]:
    """Return the local addresses of all sockets on which the components listen, as in /proc/net/tcp."""
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
