"""docs/operate.md: every `sh` block, run in its order on a fresh API server.

Only the control plane runs there. Other tests cover the services.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Kubectl, kubectl_for

from dev.kubectl import kubectl_path
from dev.stack import Part, Stack
from dev.tools import HELM, tools

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text()
PARTS: tuple[Part, ...] = ("control-plane",)
DEPLOYMENTS = ["deployment", "--selector", "app.kubernetes.io/instance=phjob"]


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the heading and the commands of each `sh` block."""
    heading = ""
    for match in re.finditer(r"^(#+ [^\n]*)$|^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        heading = match[1] or heading
        if match[2]:
            yield heading.lstrip("# "), match[2]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a cluster with only PhJob's namespace and CRDs. Yields its kubeconfig."""
    with Stack(tmp_path_factory.mktemp("page"), parts=PARTS) as stack:
        yield stack.kubeconfig


@pytest.fixture(scope="module")
def shell(kubeconfig: Path) -> dict[str, str]:
    """Return the environment of a shell with helm and kubectl."""
    programs = (tools(HELM), kubectl_path().parent)
    path = ":".join([*map(str, programs), os.environ["PATH"]])
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "KUBECONFIG": str(kubeconfig)}


@pytest.fixture(scope="module")
def states(shell: dict[str, str], kubeconfig: Path) -> list[tuple[str, str]]:
    """Run all blocks. Returns the heading of each, and the Deployments after it."""
    states = []
    for heading, commands in blocks():
        done = subprocess.run(
            ["sh", "-eu"], cwd=ROOT, env=shell, input=commands, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{heading}:\n{commands}\n{done.stdout}\n{done.stderr}"
        states.append((heading, deployments(kubectl_for(kubeconfig))))
    return states


def deployments(kubectl: Kubectl) -> str:
    """Return every Deployment with its replicas and its image, a line each."""
    each = "{.metadata.name}={.spec.replicas} {.spec.template.spec.containers[0].image}"
    columns = f"jsonpath={{range .items[*]}}{each}{{'\\n'}}{{end}}"
    return kubectl("-n", "hub", "get", *DEPLOYMENTS, "-o", columns).stdout


def test_every_block_has_the_effect_that_the_page_describes(states: list[tuple[str, str]]) -> None:
    """The blocks lead from the installation to the removal."""
    headings = [heading for heading, _ in states]
    assert headings == [
        "Install",
        "Install",
        "OpenShift, and other namespaces that assign ids",
        "IPv6, and DNS servers elsewhere",
        "The certificate of the chart's RabbitMQ",
        "A RabbitMQ of your own",
        "Who may do what",
        "Who may do what",
        "Privileges of jobs",
        "Privileges of jobs",
        "Size",
        "Upgrade and roll back",
        "Upgrade and roll back",
        "Remove",
    ]
    image = "registry.example.com/phjob"
    services = ("phjob-janitor-0", "phjob-pod-manager-0", "phjob-scheduler-0", "phjob-watcher")
    assert states[0][1].split("\n")[:-1] == [f"{name}=2 {image}:0.1.0" for name in services]
    assert states[9][1] == states[7][1], "settings of jobs change no Deployment"
    sharded = states[10][1]
    assert sharded.count("=2 ") == 7, "the services were stopped, and the upgrade has started them again"
    assert f"{image}:0.1.1" in states[11][1]
    assert states[12][1] == sharded, "the rollback restores the state before the upgrade"
    assert states[13][1] == ""
