"""The accounts and rights of the services in the local cluster: those of the chart, rendered without helm.

The services do not run as an administrator here. RBAC does not restrict `system:masters`, so a missing right
would be noticed only in production.

The roles and bindings come from the chart's template, so that both are always the same. No helm is needed,
because the template uses only the few expressions of `_VALUES`. Any other expression stops `make up`. A test
compares the result with that of helm.
"""

import re
from pathlib import Path

from dev.cluster import NAMESPACE
from dev.errors import DevError
from dev.kubectl import Kubectl

TEMPLATE = Path(__file__).parents[3] / "k8s" / "chart" / "templates" / "rbac-services.yaml"
RELEASE = "phjob-dev"
"""The name of the release. It is not `phjob`, because helm could not install the chart over these roles."""
WITH_KUBERNETES = ("watcher", "pod-manager")
"""The services that have credentials; the others need none."""
GROUPS = f"system:serviceaccounts,system:serviceaccounts:{NAMESPACE}"
"""The groups of every ServiceAccount of the namespace."""


def account(service: str) -> str:
    """Return the name of a service's ServiceAccount, as in the chart."""
    return f"{RELEASE}-{service}"


def user(service: str) -> str:
    """Return the user name of a service's ServiceAccount."""
    return f"system:serviceaccount:{NAMESPACE}:{account(service)}"


_VALUES = {
    '- include "phjob.labels" . | nindent 4': "{app.kubernetes.io/part-of: phjob}",
    'include "phjob.jobNamespace" .': NAMESPACE,
    'include "phjob.clusterName" .': f"{NAMESPACE}-{RELEASE}",
    ".Release.Namespace": NAMESPACE,
    **{f'include "phjob.account" (list . "{name}")': account(name) for name in WITH_KUBERNETES},
}


def rendered() -> str:
    """Return the chart's roles and bindings of the services, as YAML documents.

    Raises:
        DevError: the template has an expression that is not in `_VALUES`.

    """
    return re.sub(r"\{\{(.*?)\}\}", _value, TEMPLATE.read_text())


def _value(expression: re.Match[str]) -> str:
    """Return the value of one of the template's expressions."""
    try:
        return _VALUES[expression[1].strip()]
    except KeyError:
        raise DevError(f"{TEMPLATE}: dev.rights has no value for {expression[0]}") from None


def grant(kubectl: Kubectl) -> None:
    """Apply the roles and bindings; safe to repeat."""
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", given=rendered())
