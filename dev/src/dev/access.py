"""The users of the API server: a token for each, and the kubeconfig with that token.

This module grants no rights. RBAC does: Kubernetes' own roles for the components of the cluster, and the
chart's for the services (`rights`).
"""

import json
from pathlib import Path

from dev import rights
from dev.paths import StackPaths
from dev.pki import Pki

ADMIN = "admin"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
# The name of the real node. The API server connects to its kubelet by this name, over loopback.
NODE_NAME = "localhost"
NODE = f"system:node:{NODE_NAME}"
# The users of the services have static tokens. Unlike the token of a ServiceAccount, a static one exists
# before the API server runs, and never expires. RBAC and API priority and fairness treat these users as the
# ServiceAccounts, because both go by user and groups.
SERVICES = tuple(rights.user(service) for service in rights.WITH_KUBERNETES)

GROUPS = {
    ADMIN: "system:masters",
    CONTROLLER_MANAGER: "",
    SCHEDULER: "",
    NODE: "system:nodes",
    **dict.fromkeys(SERVICES, rights.GROUPS),
}


def tokens_csv(paths: StackPaths) -> str:
    """Return the content of the API server's `--token-auth-file`."""
    lines = (f'{paths.secret(user)},{user},{user},"{groups}"' for user, groups in GROUPS.items())
    return "\n".join(lines) + "\n"


def kubeconfig(paths: StackPaths, pki: Pki, user: str) -> str:
    """Return the content of the user's kubeconfig, as JSON, which is also YAML."""
    cluster = {"server": paths.url("kube-apiserver"), "certificate-authority": str(pki.ca)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "phjob", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": paths.secret(user)}}],
        "contexts": [{"name": "phjob", "context": {"cluster": "phjob", "user": user}}],
        "current-context": "phjob",
    }
    return json.dumps(content, indent=2) + "\n"


def kubeconfig_file(paths: StackPaths, user: str) -> Path:
    """Return the path of the user's kubeconfig.

    The administrator's is at the top of STATE.
    """
    return paths.kubeconfig if user == ADMIN else paths.config / f"{user.replace(':', '-')}.kubeconfig"


def service_kubeconfig(paths: StackPaths, service: str) -> Path:
    """Return the path of a service's kubeconfig for the local cluster."""
    return kubeconfig_file(paths, rights.user(service))
