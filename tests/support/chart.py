"""The Helm chart as an operator handles it: rendered, and installed on a real API server.

A release here has no pods: the control plane of the tests runs no Deployments. What would run in
them, a test starts as local processes, with what the release says.
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
from tests.support.hub import kubectl_for

from dev.tools import HELM, tools

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "k8s" / "chart"
KUBERNETES = "1.36.0"
"""The version that is rendered for, where no cluster is asked."""


def helm(*args: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, built from its module; never raises because it failed."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    if kubeconfig:
        env["KUBECONFIG"] = str(kubeconfig)
    command = [str(tools(HELM) / "helm"), *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What helm said of importance: not that the chart has links in it."""
    return "\n".join(line for line in done.stderr.splitlines() if "found symbolic link" not in line)


def render(*args: str) -> list[Object]:
    """Every object of the chart with these arguments, as a release named phjob in the namespace hub."""
    fixed = ("template", "phjob", str(CHART), "--namespace=hub", f"--kube-version={KUBERNETES}")
    done = helm(*fixed, *args)
    assert done.returncode == 0, said(done)
    return _objects(done.stdout)


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of that kind and name."""
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def of_kind(objects: list[Object], kind: str) -> Iterator[Object]:
    """All of a kind."""
    return (o for o in objects if o["kind"] == kind)


class Release:
    """A release in a namespace of its own, on a real API server."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, name: str = "phjob") -> None:
        """`kubeconfig` is an administrator's; `folder` is for files of this release's own."""
        self.name = name
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.folder = folder
        self.kubectl = kubectl_for(kubeconfig)

    def install(self, *args: str) -> None:
        """Do `helm install`, or `helm upgrade` if it is installed."""
        command = ("upgrade", "--install", self.name, str(CHART), f"--namespace={self.namespace}")
        done = helm(*command, "--create-namespace", *args, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, said(done)

    def rollback(self, revision: int) -> None:
        """Do `helm rollback`."""
        command = ("rollback", self.name, str(revision), f"--namespace={self.namespace}")
        done = helm(*command, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, said(done)

    def remove(self) -> None:
        """Do `helm uninstall`, and delete the namespace with all that is in it.

        What belongs to no namespace goes also where helm has forgotten it with the namespace.
        """
        helm("uninstall", self.name, f"--namespace={self.namespace}", kubeconfig=self.kubeconfig)
        self.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
        ours = f"{self.namespace}-{self.name}"
        policy, reader = f"{ours}-identity", f"{ours}-watcher"
        for kind, name in (
            ("validatingadmissionpolicybinding", policy),
            ("validatingadmissionpolicy", policy),
            ("clusterrolebinding", reader),
            ("clusterrole", reader),
        ):
            self.kubectl("delete", kind, name, "--ignore-not-found")

    def get(self, kind: str, name: str) -> Object:
        """An object as the API server has it."""
        done = self.kubectl("-n", self.namespace, "get", kind, name, "-o", "json")
        assert done.returncode == 0, done.stderr
        found: Object = json.loads(done.stdout)
        return found

    def secret(self, name: str, key: str) -> str:
        """The value in a Secret."""
        return base64.b64decode(self.get("secret", name)["data"][key]).decode()

    def as_account(self, account: str) -> Path:
        """A kubeconfig with a token of a service account, as a pod of it would have one."""
        done = self.kubectl("-n", self.namespace, "create", "token", account)
        assert done.returncode == 0, done.stderr
        content = yaml.safe_load(self.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": done.stdout.strip()}
        file = self.folder / f"{account}.kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return file

    def bind(self, role: str, *subjects: str) -> None:
        """Give users (`--user=...`) or accounts (`--serviceaccount=...`) one of the people's roles."""
        command = ("-n", self.namespace, "create", "rolebinding", f"{role}-{secrets.token_hex(3)}")
        done = self.kubectl(*command, f"--clusterrole={self.name}-{role}", *subjects)
        assert done.returncode == 0, done.stderr


def _objects(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]
