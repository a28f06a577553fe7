"""The security profiles of a job's pod (spec.md, P10). Pure.

| Profile      | PodSecurity level | Privileges                                                     |
| ------------ | ----------------- | -------------------------------------------------------------- |
| `baseline`   | `baseline`        | those that an image which runs as root needs, and no new ones   |
| `restricted` | `restricted`      | none, and never root                                            |
| `sudo`       | `baseline`        | root, with the container runtime's own capabilities             |
"""

import re
from typing import Any

from phjob_core.messages import GroupSeen
from phjob_runtime.settings import JobSubmission

BASELINE, RESTRICTED, SUDO = "baseline", "restricted", "sudo"

JOVYAN_USER, JOVYAN_GROUP = 1000, 100
"""The ids of the user `jovyan` and of its group in Jupyter's images."""
BASELINE_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),  # install packages, and unpack files of other users
    *("SETGID", "SETPCAP", "SETUID"),  # become another user, as apt does, and give up privileges
    "KILL",  # end the processes of other users, as the entrypoint does
    "NET_BIND_SERVICE",  # listen on a port below 1024
)
"""The capabilities of `baseline`: the default of CRI-O, with which images run as root on OpenShift.

Of those that Docker and containerd also grant, NET_RAW forges packets of other pods, MKNOD makes devices, and
SYS_CHROOT, SETFCAP and AUDIT_WRITE serve login daemons and packages that no job needs.
"""
_REJECTION = re.compile(r"violates PodSecurity|security context constraint")
"""The text of a rejection by PodSecurity, or by OpenShift's counterpart."""


def profile_of(group: GroupSeen | None, settings: JobSubmission) -> str:
    """Return the security profile of a group's jobs: its own, otherwise the setting's."""
    return (group.security_profile if group else "") or settings.security_profile


def pod_security(settings: JobSubmission) -> dict[str, Any]:
    """Return the `securityContext` of the pod."""
    return {
        **({"fsGroup": JOVYAN_GROUP} if settings.fixed_ids else {}),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(profile: str, settings: JobSubmission) -> dict[str, Any]:
    """Return the `securityContext` of the container `main`."""
    if profile == SUDO:
        return {"allowPrivilegeEscalation": True, "runAsUser": 0}
    context: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if profile == RESTRICTED:
        ids = {"runAsUser": JOVYAN_USER, "runAsGroup": JOVYAN_GROUP} if settings.fixed_ids else {}
        return {**context, "runAsNonRoot": True, **ids}
    context["capabilities"]["add"] = list(BASELINE_CAPABILITIES)
    return context


def explain_rejection(error: str, profile: str) -> str:
    """Return the API server's error, with the remedy if it is about the pod's security profile."""
    if not _REJECTION.search(error):
        return error
    return (
        f"{error}; the pod has the security profile {profile!r}: an operator can set another one "
        "(jobSubmission.securityProfile, or spec.securityProfile of the PhGroup), lower the level of the "
        "namespace, or take the datasets of types git and hostPath from the group"
    )
