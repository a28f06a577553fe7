"""The custom resources and the chart on API servers of older minor versions.

The API server that is built here emulates them: it serves the APIs, and has the features and the functions
of CEL, that they had (Kubernetes, "Compatibility Version For Kubernetes Control Plane Components"). `make
oldest` also builds the API server of the oldest supported version, and uses that.
"""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.support.api import Api
from tests.support.builders import a_job
from tests.support.chart import CHART, Object, Release, helm
from tests.support.waiting import eventually

from dev.component import Component
from dev.paths import StackPaths
from dev.pki import Pki
from dev.stack import Part, Stack
from dev.tools import KUBERNETES_OLDEST, tools
from phjob_core.kinds import PHJOBS
from phjob_kube.config import connect

SUPPORTED = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
OLDEST = SUPPORTED[0]
EMULATED = ("1.33", "1.34", "1.35")
"""The versions that the API server of 1.36 can emulate. All other integration tests run on 1.36."""
RUN_ON = (OLDEST, *EMULATED) if os.environ.get("PHJOB_OLDEST") else EMULATED
CRDS = CHART / "crds"
STABLE_IN_1_31 = {
    "v1": {"ConfigMap", "Pod", "ResourceQuota", "Secret", "Service", "ServiceAccount"},
    "admissionregistration.k8s.io/v1": {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition"},
    "apps/v1": {"Deployment", "StatefulSet"},
    "networking.k8s.io/v1": {"NetworkPolicy"},
    "policy/v1": {"PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
}
"""The kinds of the chart, by API version. 1.31 serves all of them, and none is deprecated up to 1.36."""
KEPT_SECRETS = "--set=broker.secret=ours,rabbitmq.tls.secret=our-certificate"


def rendered_for(version: str) -> list[Object]:
    """Return the objects of the chart, with its CRDs, for a minor version."""
    options = (f"--kube-version={version}.0", "--include-crds", "--namespace=hub", KEPT_SECRETS)
    done = helm("template", "phjob", str(CHART), *options)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def test_the_chart_renders_the_same_stable_objects_for_every_supported_version() -> None:
    """No object depends on a feature that only some of them have."""
    newest = rendered_for(SUPPORTED[-1])
    for item in newest:
        assert item["kind"] in STABLE_IN_1_31[item["apiVersion"]]
    for version in SUPPORTED:
        assert rendered_for(version) == newest


def api_server(stack: Stack, state: Path, version: str) -> Component:
    """Return the API server of a stack, in the oldest version as the program of that version."""
    component = stack.component("kube-apiserver")
    if version != OLDEST:
        return component
    program = str(tools(KUBERNETES_OLDEST) / "kube-apiserver")
    return Component(state, replace(component.spec, argv=[program, *component.spec.argv[1:]]))


@pytest.fixture(scope="module", params=RUN_ON)
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An API server of the version, with PhJob's CRDs. Yields its kubeconfig."""
    version, state = request.param, tmp_path_factory.mktemp("version")
    emulate = {"kube-apiserver": (f"--emulated-version={version}",)}
    flags = {} if version == OLDEST else emulate
    parts: tuple[Part, ...] = ("control-plane",)
    stack = Stack(state, parts=parts, flags=flags)
    paths = StackPaths(state)
    try:
        paths.make()
        Pki(paths.config / "pki").make()
        for component in (stack.component("etcd"), api_server(stack, state, version)):
            component.start()
            component.wait_ready()
        served = json.loads(stack.kubectl("get", "--raw", "/version"))
        emulated = f"{served.get('emulationMajor')}.{served.get('emulationMinor')}"
        assert emulated == version or served["gitVersion"].startswith(f"v{version}.")
        stack.kubectl("apply", "--server-side", "-f", str(CRDS))
        stack.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))
        yield stack.kubeconfig
    finally:
        stack.down()


@pytest.fixture(scope="module")
def release(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of the chart in a namespace of its own."""
    namespace = f"chart-{secrets.token_hex(3)}"
    release = Release(kubeconfig, namespace, tmp_path_factory.mktemp("release"))
    release.install()
    release.bind_role("submitter", "--user=bob")
    return release


def submit(release: Release, name: str, user: str) -> str:
    """Try to create a job of this user, as bob. Returns the API server's answer."""
    job = json.dumps(a_job(name, user=user))
    done = release.kubectl("-n", release.namespace, "create", "--as=bob", "-f", "-", input=job)
    return done.stdout + done.stderr


def test_the_policies_of_the_chart_are_in_force(release: Release) -> None:
    """Their expressions compile with the functions of the version, and decide as on the newest one."""
    eventually(
        lambda: "spec.userName is lin, but you are bob" in submit(release, "of-lin", "lin"),
        "the identity policy refuses a job of another user",
        diagnostics=lambda: submit(release, "of-lin", "lin"),
    )
    eventually(
        lambda: "the name jupyter-bob is reserved" in submit(release, "jupyter-bob", "bob"),
        "the limits policy refuses a reserved name",
        diagnostics=lambda: submit(release, "jupyter-bob", "bob"),
    )
    assert submit(release, "of-bob", "bob") == "phjob.primehub.io/of-bob created\n"
    status = json.dumps({"status": {"phase": "Running"}})
    command = ("-n", release.namespace, "patch", "phj", "of-bob", "--subresource=status", "--type=merge")
    eventually(
        lambda: "only pod-manager writes the status" in release.kubectl(*command, "-p", status).stderr,
        "the policy of statuses refuses an administrator",
    )
    pod_manager = Api(release.kubeconfig_of("phjob-pod-manager"), release.namespace)
    written = pod_manager.merge_patch("PhJob", "of-bob", json.loads(status), subresource="status")
    assert written["status"]["phase"] == "Running"


async def test_the_crds_have_defaults_selectors_and_rules(kubeconfig: Path) -> None:
    """The watcher's selector, the status that no service writes, and a field that does not change."""
    api = Api(kubeconfig, f"crds-{secrets.token_hex(3)}")
    api.create_namespace()
    created = api.create(a_job("job"))
    assert created["status"] == {
        "phase": "Pending", "reason": "Queued", "reclaimed": False, "fence": "",
        "requeued": 0, "retried": 0, "observedGeneration": 0,
    }  # fmt: skip
    with pytest.raises(Exception, match="cannot be changed after creation"):
        api.merge_patch("PhJob", "job", {"spec": {"command": "false"}})
    async with connect(kubeconfig, api.namespace) as kube:
        listing = await kube.list(PHJOBS.watched, lambda item: item["metadata"]["name"])
        assert listing.items == ["job"]
        test: Object = {"op": "test", "path": "/status/fence", "value": ""}
        reclaim: Object = {"op": "add", "path": "/status/reclaimed", "value": True}
        await kube.patch(PHJOBS.resource, "job", [test, reclaim], subresource="status")
        assert (await kube.list(PHJOBS.watched, lambda item: item)).items == []
