"""`helm test` of the chart: its pod's command, with its account, on a real API server.

No pod runs here, so the test starts the command as a local process, with the environment of the pod.
"""

import base64
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.support.chart import Object, Release, find_object, helm, of_kind, render
from tests.support.waiting import eventually

from .conftest import Done, KubectlAs, submit


@pytest.fixture(scope="module")
def tested(control_plane: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release of its own, whose policies a test may delete. The hooks of `helm test` exist."""
    folder = tmp_path_factory.mktemp("helm-test")
    release = Release(control_plane, f"chart-{secrets.token_hex(3)}", folder)
    try:
        release.install("--set=people.create=false")
        for hook in hooks(release):
            if hook["kind"] != "Pod":
                applied = release.kubectl(
                    "-n", release.namespace, "apply", "-f", "-", input=yaml.safe_dump(hook)
                )
                assert applied.returncode == 0, applied.stderr
        yield release
    finally:
        release.uninstall()


def hooks(release: Release) -> list[Object]:
    """Return the objects that `helm test` creates, in its order."""
    done = helm(
        "get", "hooks", release.name, f"--namespace={release.namespace}", kubeconfig=release.kubeconfig
    )
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    return sorted(found, key=lambda item: int(item["metadata"]["annotations"].get("helm.sh/hook-weight", 0)))


def run(release: Release, *, patience: int) -> Done:
    """Run the command of the test's pod. `patience`: the seconds in which the policy has to be enforced."""
    (pod,) = of_kind(hooks(release), "Pod")
    (container,) = pod["spec"]["containers"]
    config = yaml.safe_load(release.kubeconfig_of(pod["spec"]["serviceAccountName"]).read_text())
    cluster, account = config["clusters"][0]["cluster"], release.folder / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text(config["users"][0]["user"]["token"])
    data = cluster.get("certificate-authority-data")
    ca = base64.b64decode(data) if data else Path(cluster["certificate-authority"]).read_bytes()
    (account / "ca.crt").write_bytes(ca)
    server = urlsplit(cluster["server"])
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    env |= {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    env |= {"ACCOUNT_FOLDER": str(account), "ENFORCED_WITHIN_SECONDS": str(patience)}
    command = [sys.executable, "-m", *container["args"]]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_the_policy_holds(tested: Release) -> None:
    """Each attempt is refused by the policy, also on a job of somebody else. Nothing is left behind."""
    job = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "metadata": {"name": "of-bob"}}
    names = {"userName": "bob", "groupName": "g", "image": "i", "instanceType": "t", "command": "true"}
    text = yaml.safe_dump({**job, "spec": names})
    assert tested.kubectl("-n", tested.namespace, "create", "-f", "-", input=text).returncode == 0
    done = run(tested, patience=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        f"ok      {attempt}: refused by the policy"
        for attempt in (
            "submit a job of another user",
            "set a finalizer",
            "change a job of another user",
            "delete a job of another user",
        )
    ]
    left = tested.kubectl("-n", tested.namespace, "get", "phjobs", "-o", "name").stdout
    assert left == "phjob.primehub.io/of-bob\n"


def test_a_cluster_without_the_binding_fails(tested: Release) -> None:
    """The policy is still there, and does nothing. The output says what to look at."""
    name = f"{tested.namespace}-phjob-identity"
    assert tested.kubectl("delete", "validatingadmissionpolicybinding", name).returncode == 0

    def failed() -> bool:
        done = run(tested, patience=0)
        return (
            done.returncode == 1 and "submit a job of another user: the API server permits it" in done.stdout
        )

    eventually(failed, "the test fails", diagnostics=lambda: run(tested, patience=0))
    assert name in run(tested, patience=0).stdout


def test_a_missing_right_is_no_proof(tested: Release) -> None:
    """RBAC refuses the attempts then, and the policy is not tried."""
    account = "phjob-identity-test"
    assert tested.kubectl("-n", tested.namespace, "delete", "rolebinding", account).returncode == 0

    def failed() -> bool:
        done = run(tested, patience=0)
        return done.returncode != 0 and "not tried, because of 403" in done.stdout

    eventually(failed, "the test fails", diagnostics=lambda: run(tested, patience=0))


def test_without_the_policy_there_is_nothing_to_test() -> None:
    """`helm test` would fail for a reason that the operator has chosen."""
    rendered = render("--set=identity.enabled=false")
    assert not [item for item in rendered if "helm.sh/hook" in item["metadata"].get("annotations", {})]


def test_the_pod_has_only_the_rights_of_a_submitter() -> None:
    """More rights would prove less."""
    rendered = render()
    role = find_object(rendered, "Role", "phjob-identity-test")
    assert role["rules"] == find_object(rendered, "ClusterRole", "phjob-submitter")["rules"]


def test_the_pod_conforms_to_pod_security_restricted(release: Release, kubectl_as: KubectlAs) -> None:
    """It is created as a dry run, in a namespace that enforces it."""
    assert submit(kubectl_as, "bob", "lin", dry_run=True).returncode != 0
    (pod,) = of_kind(hooks(release), "Pod")
    text = yaml.safe_dump({**pod, "spec": {**pod["spec"], "serviceAccountName": "default"}})
    done = release.kubectl("-n", release.namespace, "create", "--dry-run=server", "-f", "-", input=text)
    assert done.returncode == 0, done.stderr
