"""The image of the services: small, of nobody's rights, and of what uv.lock says."""

import json
import re
import tomllib

import pytest
from tests.support.compose import IMAGE, ROOT

from dev import docker_images
from dev.docker import Docker

pytestmark = pytest.mark.real_node

MOST_MEGABYTES = 160
"""Over its base; the libraries are 105 of them."""


def run(docker: Docker, *command: str) -> str:
    """The output of a command in a container that may write nothing and has no rights."""
    options = ("--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
    program, *args = command
    return docker("run", *options, f"--entrypoint={program}", IMAGE, *args)


def test_it_is_nobody_in_particular(docker: Docker, image: str) -> None:
    """By number, so that Kubernetes can tell that it is not root."""
    assert run(docker, "id", "-u").strip() == "65532"
    (config,) = json.loads(docker("inspect", image))
    assert config["Config"]["User"] == "65532:65532"


@pytest.mark.parametrize("service", ["watcher", "scheduler", "janitor", "pod_manager"])
def test_each_service_starts_with_a_root_file_system_that_is_read_only(
    docker: Docker, image: str, service: str
) -> None:
    """As far as its settings: a bad one is told at once."""
    environment = ("--env=SHARDS=none",)
    limits = ("--rm", "--read-only", "--cap-drop=ALL", "--network=none")
    with pytest.raises(Exception, match="bad setting: environment: SHARDS"):
        docker("run", *limits, *environment, image, service)


def test_it_has_no_build_tools(docker: Docker, image: str) -> None:
    """Nothing that compiles or installs Python packages."""
    tools = ("uv", "pip", "pip3", "gcc", "cc", "make", "go", "git")
    assert run(docker, "sh", "-c", f"command -v {' '.join(tools)} || true").strip() == ""


def test_it_has_the_versions_of_the_lock_file(docker: Docker, image: str) -> None:
    """Every library, and nothing that is not locked; neither tests nor the local stack."""
    script = "from importlib.metadata import *; print(*{f'{d.name}=={d.version}' for d in distributions()})"
    listed = run(docker, "python", "-c", script).lower().split()
    installed = {name.replace("_", "-") for name in listed}
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert installed <= {f"{package['name']}=={package['version']}" for package in locked}
    names = {name.partition("==")[0] for name in installed}
    assert {"shared", "watcher", "scheduler", "janitor", "pod-manager", "aio-pika"} <= names
    assert not names & {"dev", "pytest", "mypy", "cryptography"}


def test_it_is_small(docker: Docker, image: str) -> None:
    """Beside its base, which is not ours."""

    def size(tag: str) -> int:
        return int(docker("inspect", "--format={{.Size}}", tag)) // 10**6

    assert size(image) - size(docker_images.PYTHON) < MOST_MEGABYTES


def test_one_uv_everywhere() -> None:
    """In the images and on developers' machines."""
    bootstrap = re.search(r"^UV_VERSION=(\S+)", (ROOT / "dev/bootstrap").read_text(), re.MULTILINE)
    assert bootstrap
    for file in ("Dockerfile", "dev/Dockerfile"):
        assert f"ARG UV_VERSION={bootstrap[1]}\n" in (ROOT / file).read_text()
