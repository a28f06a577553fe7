"""Fixtures of all tests: the real parts of a stack, each started once, when a test first needs it."""

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.support.api import PHJOB_KINDS, Api
from tests.support.cluster import Cluster, Kubectl, cluster_on, kubectl_for
from tests.support.measurements import MEASUREMENT_PROPERTY, MeasurementReporter
from tests.support.stacks import (
    LocalStack,
    RealNode,
    docker_broker,
    endpoint_from_environment,
    log_archive_settings,
)
from tests.support.waiting import eventually

from dev.options import default_node
from dev.stack import Stack, down


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and make signals raise KeyboardInterrupt.

    Without the interrupt, the stacks would keep running. A shell may have set SIGINT to be ignored, which the
    processes of the stacks would inherit.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    config.addinivalue_line("markers", "real_node: needs Linux and root; runs real containers")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the stacks that are left at the end.

    An interrupt kills some of pytest-xdist's workers before they stop their stacks.
    """
    if hasattr(config, "workerinput"):
        return
    base = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    for depth in ("*", "*/*", "*/*/*"):
        for run in base.glob(f"{depth}/run"):
            down(run.parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the history and the logs of its cluster to the report of a failed test.

    With PHJOB_SHOW in the environment, print the history of every test.
    """
    report = yield
    arguments = getattr(item, "funcargs", {}).values()
    # A fixture may only extend another one, so that both are the same cluster.
    for cluster in {id(found): found for found in arguments if isinstance(found, Cluster)}.values():
        if report.failed:
            report.sections += cluster.failure_report()
        elif "PHJOB_SHOW" in os.environ and report.when == "call":
            print(f"\n{cluster.describe_history()}")  # noqa: T201 - for the person who runs `make ends`
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests that pytest-xdist must run in the same process.

    Each file is a group, so that its stack is started once. All tests that need the node with real
    containers are one group, and those that need a Docker daemon are another.
    """
    for item in items:
        fixtures = {*getattr(item, "fixturenames", ())}
        group = next((name for name in ("docker", "real_node") if name in fixtures), item.path.name)
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measurements of all tests."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.getreports(key)]
    lines = [
        f"{report.nodeid.partition('::')[2].partition('@')[0]}: {line}"
        for report in reports
        for name, line in report.user_properties
        if name == MEASUREMENT_PROPERTY and report.when == "call"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def report_measurement(request: pytest.FixtureRequest) -> MeasurementReporter:
    """Return a function that takes a sentence with a figure.

    The sentence is printed at the end of the run.
    """
    return lambda line: request.node.user_properties.append((MEASUREMENT_PROPERTY, line))


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Yield the stack of the session. Its parts start when a test first needs them."""
    local = LocalStack(tmp_path_factory.mktemp("stack"))
    yield local
    Stack(local.state).down()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the kubeconfig of a real API server that serves PhJob's kinds."""
    if kubeconfig := endpoint_from_environment("KUBECONFIG"):
        stack = Stack(tmp_path_factory.mktemp("cluster"), parts=(), kubeconfig=Path(kubeconfig))
        stack.up()
    else:
        local: LocalStack = request.getfixturevalue("local_stack")
        stack = local.start_parts("control-plane")
    api = Api(stack.kubeconfig, "hub")
    eventually(lambda: all(api.serves_kind(kind) for kind in PHJOB_KINDS), "PhJob's kinds are served")
    return stack.kubeconfig


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a real RabbitMQ that no service uses."""
    if url := endpoint_from_environment("AMQP_URL"):
        yield url
        return
    with docker_broker() as url:
        if url:
            yield url
        else:
            local: LocalStack = request.getfixturevalue("local_stack")
            yield local.vhost_url()


@pytest.fixture(scope="session")
def kubectl(control_plane: Path) -> Kubectl:
    """Return a function that runs kubectl with its arguments and `input`.

    It never raises.
    """
    return kubectl_for(control_plane)


@pytest.fixture(scope="session")
def kwok_stack(local_stack: LocalStack) -> Stack:
    """Start the whole stack with a KWOK node, which simulates the pods."""
    return local_stack.start()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the log archive of the stack with real containers."""
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="session")
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNode]:
    """Yield the stack with real containers of the session."""
    if default_node() != "real":
        pytest.skip("real containers need Linux and root")
    node = RealNode(tmp_path_factory.mktemp("real"))
    yield node
    Stack(node.state).down()


@pytest.fixture(scope="session")
def real_stack(real_node: RealNode, archive: Path) -> Stack:
    """Start the whole stack with real containers, which archives logs in a folder."""
    return real_node.start(log_archive_settings(archive))


@pytest.fixture
def cluster(kwok_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on the stack with a KWOK node."""
    with cluster_on(kwok_stack) as cluster:
        yield cluster


@pytest.fixture
def real_cluster(real_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on the stack with real containers."""
    with cluster_on(real_stack) as cluster:
        yield cluster
