"""The services' image: small, without privileges, and with the packages of uv.lock."""

import json
import re
import tomllib

import pytest
from tests.support.compose import IMAGE, ROOT

from dev import docker_images
from dev.docker import Docker

pytestmark = pytest.mark.real_node

MAX_ADDED_MEGABYTES = 160
"""The size that the image adds to its base. The libraries are 105 MB of it."""


def run(docker: Docker, *command: str) -> str:
    """Run a command in a container without privileges or writable files.

    Returns its output.
    """
    options = ("--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
    program, *args = command
    return docker("run", *options, f"--entrypoint={program}", IMAGE, *args)


def test_it_runs_as_an_unprivileged_user(docker: Docker, image: str) -> None:
    """The user is a number, so that Kubernetes can verify `runAsNonRoot`."""
    assert run(docker, "id", "-u").strip() == "65532"
    (config,) = json.loads(docker("inspect", image))
    assert config["Config"]["User"] == "65532:65532"


@pytest.mark.parametrize(
    "service", ["phjob_watcher", "phjob_scheduler", "phjob_janitor", "phjob_pod_manager"]
)
def test_each_service_starts_with_a_read_only_root_file_system(
    docker: Docker, image: str, service: str
) -> None:
    """It gets as far as its settings, and reports a bad one at once."""
    environment = ("--env=SHARDS=none",)
    restrictions = ("--rm", "--read-only", "--cap-drop=ALL", "--network=none")
    with pytest.raises(Exception, match="bad setting: environment: SHARDS"):
        docker("run", *restrictions, *environment, image, service)


def test_it_has_no_build_tools(docker: Docker, image: str) -> None:
    """Nothing in it compiles or installs Python packages."""
    tools = ("uv", "pip", "pip3", "gcc", "cc", "make", "go", "git")
    assert run(docker, "sh", "-c", f"command -v {' '.join(tools)} || true").strip() == ""


def test_it_has_the_versions_of_the_lock_file(docker: Docker, image: str) -> None:
    """It has only locked packages, without those of tests and of the local stack."""
    script = "from importlib.metadata import *; print(*{f'{d.name}=={d.version}' for d in distributions()})"
    listed = run(docker, "python", "-c", script).lower().split()
    installed = {name.replace("_", "-") for name in listed}
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert installed <= {f"{package['name']}=={package['version']}" for package in locked}
    names = {name.partition("==")[0] for name in installed}
    services = {"phjob-watcher", "phjob-scheduler", "phjob-janitor", "phjob-pod-manager"}
    assert services | {"phjob-core", "phjob-kube", "phjob-runtime", "aio-pika"} <= names
    assert not names & {"dev", "pytest", "mypy", "cryptography"}


def test_it_is_small(docker: Docker, image: str) -> None:
    """The size of its base does not count."""

    def size(tag: str) -> int:
        return int(docker("inspect", "--format={{.Size}}", tag)) // 10**6

    assert size(image) - size(docker_images.PYTHON) < MAX_ADDED_MEGABYTES


def test_images_and_developers_use_the_same_version_of_uv() -> None:
    """Otherwise they could resolve the lock file differently."""
    bootstrap = re.search(r"^UV_VERSION=(\S+)", (ROOT / "dev/bootstrap").read_text(), re.MULTILINE)
    assert bootstrap
    for file in ("Dockerfile", "dev/Dockerfile"):
        assert f"ARG UV_VERSION={bootstrap[1]}\n" in (ROOT / file).read_text()
