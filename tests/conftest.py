"""What the tests share: the real parts, each started once, when a test first asks for it."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.support.api import OURS, Api
from tests.support.hub import Hub, Kubectl, corner, kubectl_for
from tests.support.measures import MEASURED, Measured
from tests.support.stacks import LocalStack, RealNode, archiving_in, docker_broker, given
from tests.support.waiting import eventually

from dev.options import default_node
from dev.stack import Stack, down


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks, and end in order also when told to by a signal: the stacks must not stay.

    SIGINT, too, where a shell has let it be ignored: what is started here would inherit that.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    config.addinivalue_line("markers", "real_node: needs Linux and root; runs real containers")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the stacks that are left when all processes of the tests have ended: an interrupt kills some."""
    if hasattr(config, "workerinput"):
        return
    base = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    for depth in ("*", "*/*", "*/*/*"):
        for run in base.glob(f"{depth}/run"):
            down(run.parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show, for a failed test of the stack, what happened in it."""
    report = yield
    for used in getattr(item, "funcargs", {}).values():
        if report.failed and isinstance(used, Hub):
            report.sections += used.report()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what runs one after the other when several processes share the tests (pytest-xdist).

    Each file by itself, so that its stack is started once; all that want the node with real
    containers together, and so those that want a Docker daemon.
    """
    for item in items:
        wants = {*getattr(item, "fixturenames", ())}
        shared = next((name for name in ("docker", "real_node") if name in wants), item.path.name)
        item.add_marker(pytest.mark.xdist_group(shared))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured on the way."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.getreports(key)]
    lines = [
        f"{report.nodeid.partition('::')[2].partition('@')[0]}: {line}"
        for report in reports
        for name, line in report.user_properties
        if name == MEASURED and report.when == "call"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Takes a sentence with a figure, for the end of the run."""
    return lambda line: request.node.user_properties.append((MEASURED, line))


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The stack whose parts start as they are asked for; all of it ends with the session."""
    local = LocalStack(tmp_path_factory.mktemp("stack"))
    yield local
    Stack(local.state).down()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of a real API server that serves our kinds."""
    if kubeconfig := given("KUBECONFIG"):
        stack = Stack(tmp_path_factory.mktemp("cluster"), parts=(), kubeconfig=Path(kubeconfig))
        stack.up()
    else:
        local: LocalStack = request.getfixturevalue("local_stack")
        stack = local.parts("control-plane")
    api = Api(stack.kubeconfig, "hub")
    eventually(lambda: all(api.serves(kind) for kind in OURS), "the API server serves our kinds")
    return stack.kubeconfig


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real RabbitMQ in which no service works."""
    if url := given("AMQP_URL"):
        yield url
        return
    with docker_broker() as url:
        if url:
            yield url
        else:
            local: LocalStack = request.getfixturevalue("local_stack")
            yield local.broker()


@pytest.fixture(scope="session")
def kubectl(control_plane: Path) -> Kubectl:
    """Kubectl with the control plane: arguments and `input`; never raises because it failed."""
    return kubectl_for(control_plane)


@pytest.fixture(scope="session")
def kwok_stack(local_stack: LocalStack) -> Stack:
    """The whole stack with pods that KWOK plays."""
    return local_stack.whole()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the logs of the stack with real containers go."""
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="session")
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNode]:
    """The stack with real containers; all of it ends with the session."""
    if default_node() != "real":
        pytest.skip("real containers need Linux and root")
    node = RealNode(tmp_path_factory.mktemp("real"))
    yield node
    Stack(node.state).down()


@pytest.fixture(scope="session")
def real_stack(real_node: RealNode, archive: Path) -> Stack:
    """The whole stack with real containers, whose logs are archived in a folder."""
    return real_node.whole(archiving_in(archive))


@pytest.fixture
def hub(kwok_stack: Stack) -> Iterator[Hub]:
    """This test's corner of the stack with KWOK's pods."""
    with corner(kwok_stack) as hub:
        yield hub


@pytest.fixture
def real_hub(real_stack: Stack) -> Iterator[Hub]:
    """This test's corner of the stack with real containers."""
    with corner(real_stack) as hub:
        yield hub
