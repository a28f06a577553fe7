"""The chart's pods as containers, beside docker-compose's Kubernetes API and broker.

Each container is what its Deployment says: image, user, read-only root, environment, settings file; and it
finds the API server as every pod does, by its account's token and the cluster's own variables.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.support.broker import Management
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Object, Release
from tests.support.compose import Compose
from tests.support.installed import environment, settings_file
from tests.support.waiting import eventually

from dev.docker import Docker
from dev.errors import DevError
from shared import topology
from shared.definitions import definitions

pytestmark = pytest.mark.real_node

NAMESPACE = "installed"
NETWORK = "phjob_default"
IMAGE = {"image.repository": "phjob", "image.tag": "0.1.0", "rabbitmq.vhost": NAMESPACE}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
READY = "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz')"


@pytest.fixture
def release(compose: Compose, image: str, tmp_path: Path) -> Iterator[Release]:
    """Installed in a namespace of its own; the broker has got its definitions."""
    release = Release(compose.kubeconfig, NAMESPACE, tmp_path, name="phjob-pods")
    release.install(*(f"--set={key}={value}" for key, value in IMAGE.items()))
    urls = {service: release.secret("phjob-pods-broker", service) for service in topology.SERVICES}
    management = f"http://127.0.0.1:{compose.ports['RABBITMQ_MANAGEMENT_PORT']}"
    Management(management, "phjob:phjob").import_definitions(definitions(urls, 1))
    yield release
    release.remove()


@pytest.fixture
def containers(docker: Docker, release: Release) -> Iterator[list[str]]:
    """One container for each Deployment."""
    done = release.kubectl("-n", NAMESPACE, "get", "deployments", "-o", "json")
    names = [start(docker, release, deployment) for deployment in json.loads(done.stdout)["items"]]
    yield names
    docker("rm", "--force", *names)


def start(docker: Docker, release: Release, deployment: Object) -> str:
    """Run the Deployment's container; its name."""
    pod, name = deployment["spec"]["template"]["spec"], deployment["metadata"]["name"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    env = environment(release, container)
    host = urlsplit(env["AMQP_URL"]).hostname or ""
    env["AMQP_URL"] = env["AMQP_URL"].replace(host, "rabbitmq")
    mounts = [f"--volume={settings_file(release, pod, Path(env['SETTINGS_FILE']))}:{env['SETTINGS_FILE']}:ro"]
    if pod["automountServiceAccountToken"]:
        env |= {"KUBERNETES_SERVICE_HOST": "kubernetes", "KUBERNETES_SERVICE_PORT": "6443"}
        mounts.append(f"--volume={credentials(release, pod['serviceAccountName'])}:{ACCOUNT}:ro")
    docker(
        "run", "--detach", f"--name={name}", f"--network={NETWORK}",
        f"--user={pod['securityContext']['runAsUser']}", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", f"--memory={container['resources']['limits']['memory'][:-1]}",
        *mounts, *(f"--env={key}={value}" for key, value in env.items()),
        container["image"], *container["args"],
    )  # fmt: skip
    return str(name)


def credentials(release: Release, account: str) -> Path:
    """What a kubelet puts into a pod of this account."""
    content = yaml.safe_load(release.as_account(account).read_text())
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
    """All four are ready, and a job of a group goes its whole way."""

    def ready(name: str) -> bool:
        try:
            docker("exec", name, "python", "-c", READY)
        except DevError:
            return False
        return True

    def said() -> str:
        return "\n".join(docker.logs(name)[-1500:] for name in containers)

    for name in containers:
        eventually(lambda name=name: ready(name), f"{name} is ready", instead=said)  # type: ignore[misc]
    for item in (an_image(), an_instance_type(), a_group("phusers"), a_job("job")):
        done = release.kubectl("-n", NAMESPACE, "create", "-f", "-", input=json.dumps(item))
        assert done.returncode == 0, done.stderr
    eventually(
        lambda: release.get("phjob", "job")["status"]["phase"] == "Succeeded",
        "the job succeeds",
        within=240,
        instead=said,
    )
