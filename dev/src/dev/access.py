"""Who may talk to the API server: a token for each user, and the kubeconfig that holds it.

Rights come from the groups (RBAC's own roles); nothing here grants any.
"""

import json
from pathlib import Path

from dev.pki import Pki
from dev.site import Site

ADMIN = "admin"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
# The real node's only name: the API server reaches its kubelet by it, over loopback.
NODE_NAME = "localhost"
NODE = f"system:node:{NODE_NAME}"

GROUPS = {ADMIN: "system:masters", CONTROLLER_MANAGER: "", SCHEDULER: "", NODE: "system:nodes"}


def tokens_csv(site: Site) -> str:
    """Content of the API server's `--token-auth-file`."""
    lines = (f'{site.secret(user)},{user},{user},"{group}"' for user, group in GROUPS.items())
    return "\n".join(lines) + "\n"


def kubeconfig(site: Site, pki: Pki, user: str) -> str:
    """Content of the kubeconfig of this user; JSON is YAML too."""
    cluster = {"server": site.url("kube-apiserver"), "certificate-authority": str(pki.ca)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "phjob", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": site.secret(user)}}],
        "contexts": [{"name": "phjob", "context": {"cluster": "phjob", "user": user}}],
        "current-context": "phjob",
    }
    return json.dumps(content, indent=2) + "\n"


def kubeconfig_file(site: Site, user: str) -> Path:
    """Where a component finds it; the administrator's is STATE's own."""
    return site.kubeconfig if user == ADMIN else site.config / f"{user.replace(':', '-')}.kubeconfig"
