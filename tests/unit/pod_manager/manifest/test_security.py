import pytest
from tests.fakes.facts import a_group

from phjob_pod_manager.manifest.security import (
    container_security,
    explain_rejection,
    pod_security,
    profile_of,
)
from phjob_runtime.settings import JobSubmission

NO_FIXED_IDS = JobSubmission(fixedIds=False)
FORBIDDEN_BY_BASELINE = {"NET_RAW", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "ALL"}
PRIVILEGED_BEYOND_NEED = {"MKNOD", "SYS_CHROOT", "SETFCAP", "AUDIT_WRITE"}


def test_the_profile_is_the_groups_own_or_the_settings() -> None:
    """An administrator may give a group another one. `grantSudo` is PrimeHub's name for `sudo`."""
    assert profile_of(None, JobSubmission()) == "baseline"
    assert profile_of(a_group(), JobSubmission(securityProfile="restricted")) == "restricted"
    assert profile_of(a_group(security_profile="baseline"), JobSubmission(grantSudo=True)) == "baseline"
    assert profile_of(a_group(), JobSubmission(grantSudo=True)) == "sudo"


def test_baseline_has_only_the_capabilities_that_an_image_of_root_needs() -> None:
    """It gains none. With NET_RAW, it could forge packets of other pods (spec.md, P10)."""
    context = container_security("baseline", JobSubmission())
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"]["drop"] == ["ALL"]
    assert not {*context["capabilities"]["add"]} & (FORBIDDEN_BY_BASELINE | PRIVILEGED_BEYOND_NEED)
    assert {"CHOWN", "SETUID", "SETGID", "KILL"} <= {*context["capabilities"]["add"]}
    assert "runAsUser" not in context


def test_restricted_has_no_privilege_and_the_user_of_jupyters_images() -> None:
    """Otherwise an image whose user is root could not start in it."""
    assert container_security("restricted", JobSubmission()) == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 100,
    }


def test_where_the_namespace_assigns_ids_the_pod_names_none() -> None:
    """OpenShift rejects ids outside the range of the namespace."""
    context = container_security("restricted", NO_FIXED_IDS)
    assert not {"runAsUser", "runAsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True
    assert pod_security(JobSubmission())["fsGroup"] == 100
    assert "fsGroup" not in pod_security(NO_FIXED_IDS)


@pytest.mark.parametrize(
    "error",
    [
        'pods "job" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'pods "job" is forbidden: unable to validate against any security context constraint: []',
    ],
)
def test_a_rejection_by_pod_security_names_the_setting_and_the_remedy(error: str) -> None:
    """The user cannot know why their job is refused."""
    text = explain_rejection(error, "sudo")
    assert text.startswith(f"{error}; the pod has the security profile 'sudo': ")
    assert "jobSubmission.securityProfile" in text


def test_another_rejection_stays_as_it_is() -> None:
    """It has another remedy."""
    assert explain_rejection("exceeded quota", "sudo") == "exceeded quota"
