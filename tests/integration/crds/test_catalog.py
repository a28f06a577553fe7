"""The catalog on a real API server: it accepts PrimeHub's own objects, and rejects invalid quantities."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.crds.manifests import answer, patch, read, thing
from tests.support.cluster import Kubectl

from phjob_core.pod_limits import RESOURCE_CLAIMS

PRIMEHUB = (Path(__file__).parent / "primehub.yaml").read_text()


@pytest.mark.parametrize("original", yaml.safe_load(PRIMEHUB))
def test_primehubs_own_objects_are_stored_unchanged(
    kubectl: Kubectl, namespace: str, original: dict[str, Any]
) -> None:
    """No warning is printed, and no field that PrimeHub writes is dropped."""
    kind = original["kind"].lower()
    done = kubectl("apply", "-f", "-", input=thing(original["kind"], namespace, original["spec"]))
    assert answer(done) == f"{kind}.primehub.io/one created"
    assert read(kubectl, namespace, f"{kind}/one")["spec"] == original["spec"]


def test_a_null_from_primehubs_console_counts_as_absent(kubectl: Kubectl, namespace: str) -> None:
    """The API server drops it, so that no service has to distinguish the two."""
    valid = {"limits.cpu": 1, "limits.memory": "1G"}
    spec = {
        **valid,
        "requests.cpu": None,
        "nodeSelector": None,
        "tolerations": [{"operator": "Exists", "effect": None}],
    }
    assert kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, spec)).returncode == 0
    assert read(kubectl, namespace, "instancetype/one")["spec"] == {
        **valid,
        "tolerations": [{"operator": "Exists"}],
    }


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (
            "limits.cpu",
            [1, 0.5, 2.0, "2", "500m", ".25"],
            ["lots", "1 core", 0, "0", "0m", -1, True, [], [1], {}, {"a": 1}, "9" * 33],
        ),
        (
            "limits.memory",
            ["4G", "0.5G", "512Mi", 536870912, "1e9"],
            ["4GB", "4 G", "", 0, "0G", "-1G", "2E", 0.5, True, [], {}],
        ),
        ("limits.nvidia.com/gpu", [0, 8, "1"], [-1, 0.5, "half", "1Gi", True, []]),
        ("limits.gpu", [1], [0.5]),
        ("requests.cpu", [0, 0.1, "100m"], [-1, "some", False, {}]),
        ("requests.memory", ["0G", "1G", 0], ["-1G", "some", 1.5]),
        ("gpuResourceName", ["amd.com/gpu", ""], ["gpu", "amd.com/"]),
        ("runtimeClassName", ["nvidia", "gvisor.example", ""], ["Nvidia", "-a", "a/b", 1]),
    ],
)
def test_an_instance_type_accepts_only_quantities(
    kubectl: Kubectl, namespace: str, key: str, good: list[Any], bad: list[Any]
) -> None:
    """The key decides about numbers, fractions and strings. The error names the key."""
    valid = {"limits.cpu": 1, "limits.memory": "1G"}
    for value in good:
        done = kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, {**valid, key: value}))
        assert done.returncode == 0, f"{key}: {value!r} must be accepted: {answer(done)}"
    for value in bad:
        done = kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, {**valid, key: value}))
        assert done.returncode == 1, f"{key}: {value!r} must be rejected"
        assert f"spec.{key}" in answer(done), f"the error for {value!r} must name {key}"


def test_a_quota_accepts_only_known_resources_and_quantities(kubectl: Kubectl, namespace: str) -> None:
    """A misspelt key, a fraction that is no string and a negative number are rejected, and change nothing."""
    good = {
        "cpu": "0.5", "memory": "4G", "gpu": 4, "nvidia.com/mig-1g.5gb": 2, "ephemeral-storage": "100Gi",
        RESOURCE_CLAIMS: 0,
    }  # fmt: skip
    spec = {"userQuota": good, "groupQuota": good, "users": []}
    assert kubectl("create", "-f", "-", input=thing("PhGroup", namespace, spec)).returncode == 0
    for quota in (
        {"gpus": 1},
        {"CPU": 1},
        {"mem": "1G"},
        {"storage": "1G"},
        {"/gpu": 1},
        {"cpu": 0.5},
        {"cpu": "-1"},
        {"memory": "4GB"},
        {"memory": "2E"},
        {"memory": "1e999999999"},
        {"gpu": -1},
        {"gpu": True},
    ):
        assert patch(kubectl, namespace, "phg/one", {"spec": {"groupQuota": quota}}).returncode == 1, (
            f"{quota} must be rejected"
        )
    assert read(kubectl, namespace, "phg/one")["spec"]["groupQuota"] == good


def test_a_group_has_one_of_the_security_profiles(kubectl: Kubectl, namespace: str) -> None:
    """Another name would be no profile (spec.md, P10)."""
    for profile in ("baseline", "restricted", "sudo"):
        spec: dict[str, Any] = {"users": [], "securityProfile": profile}
        done = kubectl("apply", "-f", "-", input=thing("PhGroup", namespace, spec))
        assert done.returncode == 0, answer(done)
    done = patch(kubectl, namespace, "phg/one", {"spec": {"securityProfile": "privileged"}})
    assert done.returncode == 1
    assert 'spec.securityProfile: Unsupported value: "privileged"' in answer(done)
