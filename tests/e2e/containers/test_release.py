"""The chart's pods as containers, with the Kubernetes API and the broker of docker-compose.

Each container has the image, user, read-only root, environment and settings file of its Deployment. It finds
the API server as every pod does: by its account's token and the cluster's environment variables.
"""

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.support.broker import ManagementApi
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Object, Release
from tests.support.compose import Compose
from tests.support.installed_release import (
    BROKER_FOLDER,
    container_environment,
    copy_broker_folder,
    copy_settings_file,
)
from tests.support.waiting import eventually

from dev.docker import Docker
from dev.errors import DevError
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.definitions import definitions

pytestmark = pytest.mark.real_node

NAMESPACE = "installed"
NETWORK = "phjob_default"
VALUES = {"image.repository": "phjob", "image.tag": "0.1.0", "rabbitmq.vhost": NAMESPACE}
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
READY_CHECK = "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz')"


@pytest.fixture
def release(compose: Compose, image: str, tmp_path: Path) -> Iterator[Release]:
    """Install the chart in its own namespace, and import the broker's definitions."""
    release = Release(compose.kubeconfig, NAMESPACE, tmp_path, name="phjob-pods")
    release.install(*(f"--set={key}={value}" for key, value in VALUES.items()))
    urls = {service: release.secret("phjob-pods-broker", service) for service in topology.SERVICES}
    management = f"http://127.0.0.1:{compose.ports['RABBITMQ_MANAGEMENT_PORT']}"
    ManagementApi(management, "phjob:phjob").import_definitions(definitions(urls, 1))
    yield release
    release.uninstall()


@pytest.fixture
def containers(docker: Docker, release: Release) -> Iterator[list[str]]:
    """Start a container for each Deployment. Yields their names."""
    done = release.kubectl("-n", NAMESPACE, "get", "deployments", "-o", "json")
    names = [start(docker, release, deployment) for deployment in json.loads(done.stdout)["items"]]
    yield names
    docker("rm", "--force", *names)


def start(docker: Docker, release: Release, deployment: Object) -> str:
    """Start the Deployment's container. Returns its name."""
    pod, name = deployment["spec"]["template"]["spec"], deployment["metadata"]["name"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    env = container_environment(container)
    folder = copy_broker_folder(release, pod, container)
    url = urlsplit((folder / "url").read_text())
    # The broker of docker-compose has no TLS.
    (folder / "url").write_text(f"amqp://{url.username}:{url.password}@rabbitmq:5672{url.path}")
    mounts = [
        f"--volume={copy_settings_file(release, pod, Path(env['SETTINGS_FILE']))}:{env['SETTINGS_FILE']}:ro",
        f"--volume={folder}:{BROKER_FOLDER}:ro",
    ]
    if pod["automountServiceAccountToken"]:
        env |= {"KUBERNETES_SERVICE_HOST": "kubernetes", "KUBERNETES_SERVICE_PORT": "6443"}
        mounts.append(f"--volume={credentials(release, pod['serviceAccountName'])}:{ACCOUNT_FOLDER}:ro")
    docker(
        "run", "--detach", f"--name={name}", f"--network={NETWORK}",
        f"--user={pod['securityContext']['runAsUser']}", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", f"--memory={container['resources']['limits']['memory'][:-1]}",
        *mounts, *(f"--env={key}={value}" for key, value in env.items()),
        container["image"], *container["args"],
    )  # fmt: skip
    return str(name)


def credentials(release: Release, account: str) -> Path:
    """Write the files that a kubelet mounts into a pod of this account.

    Returns their folder.
    """
    content = yaml.safe_load(release.kubeconfig_of(account).read_text())
    folder = release.folder / account
    folder.mkdir()
    (folder / "token").write_text(content["users"][0]["user"]["token"])
    ca = content["clusters"][0]["cluster"]["certificate-authority-data"]
    (folder / "ca.crt").write_bytes(base64.b64decode(ca))
    (folder / "namespace").write_text(release.namespace)
    return folder


def test_a_job_runs_through_the_charts_containers(
    docker: Docker, release: Release, containers: list[str]
) -> None:
    """All four become ready, and a job succeeds."""

    def is_ready(name: str) -> bool:
        try:
            docker("exec", name, "python", "-c", READY_CHECK)
        except DevError:
            return False
        return True

    def log_ends() -> str:
        return "\n".join(docker.logs(name)[-1500:] for name in containers)

    for name in containers:
        eventually(partial(is_ready, name), f"{name} is ready", diagnostics=log_ends)
    for item in (an_image(), an_instance_type(), a_group("phusers"), a_job("job")):
        done = release.kubectl("-n", NAMESPACE, "create", "-f", "-", input=json.dumps(item))
        assert done.returncode == 0, done.stderr
    eventually(
        lambda: release.get("phjob", "job")["status"]["phase"] == "Succeeded",
        "the job has succeeded",
        within=240,
        diagnostics=log_ends,
    )
