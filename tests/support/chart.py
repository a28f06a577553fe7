"""The Helm chart as an operator uses it: rendered, and installed on a real API server.

A release has no pods here, because the control plane of the tests runs no Deployments. A test starts their
containers as local processes (`installed_release`) or with Docker.
"""

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.support.cluster import kubectl_for

from dev.tools import HELM, tools

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "k8s" / "chart"
KUBERNETES = "1.36.0"
"""The Kubernetes version for which `render` renders the chart, without a cluster."""

POLICIES = ("identity", "status", "pods", "lease", "dataset-secrets", "limits")
"""The chart's ValidatingAdmissionPolicies, by the ends of their names."""


def helm(*args: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm. A failure is a normal outcome: it never raises."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    if kubeconfig:
        env["KUBECONFIG"] = str(kubeconfig)
    command = [str(tools(HELM) / "helm"), *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def render(*args: str, release: str = "phjob") -> list[Object]:
    """Render the chart for the namespace hub. Returns all objects."""
    fixed = ("template", release, str(CHART), "--namespace=hub", f"--kube-version={KUBERNETES}")
    done = helm(*fixed, *args)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def find_object(objects: list[Object], kind: str, name: str) -> Object:
    """Return the only object of this kind and name."""
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def of_kind(objects: list[Object], kind: str) -> Iterator[Object]:
    """Return all objects of a kind."""
    return (o for o in objects if o["kind"] == kind)


class Release:
    """A release of the chart in its own namespace, on a real API server."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, name: str = "phjob") -> None:
        """Use an administrator's kubeconfig, and a folder for the files of this release."""
        self.name = name
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.folder = folder
        self.kubectl = kubectl_for(kubeconfig)

    def install(self, *args: str) -> None:
        """Run `helm install`, or `helm upgrade` if the release is installed.

        Without `args` that say otherwise, the release has no ResourceQuota. Kubernetes refuses all jobs for
        up to five minutes after the first installation of the CRDs with one (docs/operate.md, Install).
        """
        command = ("upgrade", "--install", self.name, str(CHART), f"--namespace={self.namespace}")
        options = ("--create-namespace", "--set=jobQuota.enabled=false")
        done = helm(*command, *options, *args, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, done.stderr

    def rollback(self, revision: int) -> None:
        """Run `helm rollback`."""
        command = ("rollback", self.name, str(revision), f"--namespace={self.namespace}")
        done = helm(*command, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, done.stderr

    def uninstall(self) -> None:
        """Run `helm uninstall`, and delete the namespace and all cluster-scoped objects.

        Helm records its releases in the namespace. Without that record, it would leave the cluster-scoped
        objects behind.
        """
        helm("uninstall", self.name, f"--namespace={self.namespace}", kubeconfig=self.kubeconfig)
        self.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
        prefix = f"{self.namespace}-{self.name}"
        policies = [f"{prefix}-{policy}" for policy in POLICIES]
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            self.kubectl("delete", kind, *policies, "--ignore-not-found")
        for kind in ("clusterrolebinding", "clusterrole"):
            self.kubectl("delete", kind, f"{prefix}-watcher", "--ignore-not-found")

    def get(self, kind: str, name: str) -> Object:
        """Return an object from the API server."""
        done = self.kubectl("-n", self.namespace, "get", kind, name, "-o", "json")
        assert done.returncode == 0, done.stderr
        found: Object = json.loads(done.stdout)
        return found

    def secret(self, name: str, key: str) -> str:
        """Return a value of a Secret."""
        return base64.b64decode(self.get("secret", name)["data"][key]).decode()

    def kubeconfig_of(self, account: str) -> Path:
        """Write a kubeconfig with a token of a service account. Returns its path."""
        done = self.kubectl("-n", self.namespace, "create", "token", account)
        assert done.returncode == 0, done.stderr
        content = yaml.safe_load(self.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": done.stdout.strip()}
        file = self.folder / f"{account}.kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return file

    def account_user(self, account: str) -> str:
        """Return the user name of a service account in the release's namespace."""
        return f"system:serviceaccount:{self.namespace}:{account}"

    def bind_role(self, role: str, *subjects: str) -> None:
        """Bind a user role to users (`--user=...`) or accounts (`--serviceaccount=...`)."""
        command = ("-n", self.namespace, "create", "rolebinding", f"{role}-{secrets.token_hex(3)}")
        done = self.kubectl(*command, f"--clusterrole={self.name}-{role}", *subjects)
        assert done.returncode == 0, done.stderr


def _objects(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]
