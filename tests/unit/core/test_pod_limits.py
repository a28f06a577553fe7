from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phjob_core.pod_limits import RESOURCE_CLAIMS, excess, larger, pod_limits, total

GIB = 2**30
JUPYTERHUB = {
    "containers": [
        {
            "name": "notebook",
            "resources": {
                "limits": {"cpu": "2", "memory": str(4 * GIB), "nvidia.com/gpu": "1"},
                "requests": {"cpu": "500m", "memory": str(GIB), "nvidia.com/gpu": "1"},
            },
        }
    ],
    "initContainers": [{"name": "block-cloud-metadata", "resources": {}}],
}
"""As KubeSpawner writes a user's pod."""
KUBEVIRT = {
    "containers": [
        {
            "name": "compute",
            "resources": {
                "limits": {
                    "devices.kubevirt.io/kvm": "1",
                    "memory": "4654Mi",
                    "nvidia.com/GA102GL_A10": "1",
                }
            },
        },
        {"name": "guest-console-log", "resources": {"limits": {"cpu": "15m", "memory": "60M"}}},
    ]
}
"""As KubeVirt writes the pod of a virtual machine with a passed-through GPU."""
HAMI = {
    "containers": [
        {
            "name": "notebook",
            "resources": {
                "limits": {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000, "nvidia.com/gpucores": 30}
            },
        }
    ]
}
"""As a user of HAMi shares a GPU."""
GKE_TPU = {
    "nodeSelector": {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice"},
    "containers": [
        {
            "name": "jax",
            "resources": {"requests": {"google.com/tpu": 4}, "limits": {"google.com/tpu": 4}},
        }
    ],
}
"""As Google's documentation writes a pod with TPUs."""


@pytest.mark.parametrize(
    ("spec", "limits"),
    [
        (JUPYTERHUB, {"cpu": 2000, "memory": 4 * GIB, "nvidia.com/gpu": 1}),
        (
            KUBEVIRT,
            {
                "devices.kubevirt.io/kvm": 1,
                "memory": 4654 * 2**20 + 60_000_000,
                "nvidia.com/GA102GL_A10": 1,
                "cpu": 15,
            },
        ),
        (HAMI, {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000, "nvidia.com/gpucores": 30}),
        (GKE_TPU, {"google.com/tpu": 4}),
    ],
)
def test_pods_of_real_clients_count_their_limits(spec: Any, limits: dict[str, int]) -> None:
    """The pods of the pool are not only PhJob's."""
    assert pod_limits(spec) == limits


def a_container(cpu: str, name: str = "", **fields: object) -> dict[str, Any]:
    return {"name": name, "resources": {"limits": {"cpu": cpu}}, **fields}


def test_a_pods_limits_are_the_sum_of_its_containers() -> None:
    """A notebook may have a helper beside it (spec.md, S4)."""
    assert pod_limits({"containers": [a_container("1"), a_container("500m"), {}]}) == {"cpu": 1500}


def test_an_init_container_counts_only_if_it_needs_more_than_the_containers() -> None:
    """It runs before them (Kubernetes, Sidecar containers, Resource sharing within containers)."""
    pod = {"containers": [a_container("1")], "initContainers": [a_container("3"), a_container("2")]}
    assert pod_limits(pod) == {"cpu": 3000}


def test_a_sidecar_counts_beside_the_containers_and_beside_later_init_containers() -> None:
    """It runs beside both (Kubernetes, the same page)."""
    sidecar = a_container("1", restartPolicy="Always")
    pod = {"containers": [a_container("1")], "initContainers": [a_container("2"), sidecar]}
    assert pod_limits(pod) == {"cpu": 2000}
    pod["initContainers"] = [sidecar, a_container("2")]
    assert pod_limits(pod) == {"cpu": 3000}


def test_limits_of_the_pod_itself_win_over_those_of_its_containers() -> None:
    """A notebook may set nothing else (Kubernetes, Pod-level resources)."""
    pod = {"resources": {"limits": {"cpu": "8", "memory": "32Gi"}}, "containers": [{"name": "notebook"}]}
    assert pod_limits(pod) == {"cpu": 8000, "memory": 32 * GIB}
    containers = [a_container("3"), a_container("3")]
    assert pod_limits({"resources": {"limits": {"cpu": "4"}}, "containers": containers}) == {"cpu": 4000}
    # Its requests say nothing about limits, and it can have no GPU of its own.
    pod = {"resources": {"requests": {"cpu": "1"}}, "containers": [a_container("2")]}
    assert pod_limits(pod) == {"cpu": 2000}


def test_the_overhead_of_a_runtime_class_is_added_to_limits() -> None:
    """The sandbox uses it (Kubernetes, Pod overhead). A resource without a limit has no sum to add it to."""
    overhead = {"cpu": "250m", "memory": "120Mi"}
    limits = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "0"}
    pod = {"overhead": overhead, "containers": [{"resources": {"limits": limits}}]}
    assert pod_limits(pod) == {"cpu": 1250, "memory": GIB + 120 * 2**20, "nvidia.com/gpu": 0}
    pod = {"overhead": overhead, "resources": {"limits": {"cpu": "8"}}, "containers": [{}]}
    assert pod_limits(pod) == {"cpu": 8250}


def reported(cpu: str, name: str = "notebook") -> dict[str, Any]:
    return {"name": name, "resources": {"limits": {"cpu": cpu}}}


INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
DEFERRED = {"type": "PodResizePending", "status": "True", "reason": "Deferred"}


@pytest.mark.parametrize(
    ("desired", "actual", "conditions", "cpu"),
    [
        ("4", "1", [], 4000),  # It grows, and counts from then on.
        ("4", "1", [DEFERRED], 4000),
        ("4", "1", [INFEASIBLE], 1000),
        ("1", "4", [], 4000),  # It shrinks, and still has the old limit.
        ("1", "1", [], 1000),
    ],
)
def test_a_pod_that_is_resized_counts_the_larger_limit(
    desired: str, actual: str, conditions: list[Any], cpu: int
) -> None:
    """kube-scheduler does the same (Kubernetes, Resize CPU and memory resources)."""
    pod = {"containers": [a_container(desired, "notebook")]}
    status = {"containerStatuses": [reported(actual)], "conditions": conditions}
    assert pod_limits(pod, status) == {"cpu": cpu}
    sidecar = {"initContainers": [a_container(desired, "notebook", restartPolicy="Always")]}
    status = {"initContainerStatuses": [reported(actual)], "conditions": conditions}
    assert pod_limits(sidecar, status) == {"cpu": cpu}


def test_a_resized_pod_with_limits_of_its_own_counts_the_larger_one_without_the_overhead_twice() -> None:
    """What the kubelet reports for the pod includes the overhead."""
    pod = {
        "resources": {"limits": {"cpu": "4"}},
        "overhead": {"cpu": "250m"},
        "containers": [{"name": "notebook"}],
    }
    status: dict[str, Any] = {"resources": {"limits": {"cpu": "6250m"}}}
    assert pod_limits(pod, status) == {"cpu": 6250}
    status["resources"]["limits"]["cpu"] = "1250m"
    assert pod_limits(pod, status) == {"cpu": 4250}
    assert pod_limits(pod, {**status, "conditions": [INFEASIBLE]}) == {"cpu": 1250}


def test_resource_claims_count_under_a_name_of_their_own() -> None:
    """A pod does not say which devices they are. The name is that of a ResourceQuota for claims."""
    claims = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}, {"name": "nic"}]
    pod = {"resourceClaims": claims, "containers": [a_container("1")]}
    assert pod_limits(pod) == {"cpu": 1000, RESOURCE_CLAIMS: 2}
    assert RESOURCE_CLAIMS == "count/resourceclaims.resource.k8s.io"


def test_sums_and_excesses_are_by_resource() -> None:
    """A resource that one side lacks is 0 there."""
    assert total(({"cpu": 1, "memory": 2}, {"cpu": 3})) == {"cpu": 4, "memory": 2}
    assert larger({"cpu": 1, "memory": 2}, {"cpu": 3}) == {"cpu": 3, "memory": 2}
    assert excess({"cpu": 4, "memory": 2}, {"cpu": 3, "memory": 2, "x": 1}) == {"cpu": 1}


RESOURCES = ("cpu", "memory", "nvidia.com/gpu")
LIMITS = st.dictionaries(st.sampled_from(RESOURCES), st.integers(1, 9).map(str))
CONTAINERS = st.lists(
    st.tuples(LIMITS, st.booleans(), st.none() | LIMITS), max_size=4
)  # The limits, whether it restarts (of an init container), and what the kubelet reports.
Sizes = Mapping[str, int]


def milli(limits: Mapping[str, str]) -> dict[str, int]:
    return {name: int(value) * (1000 if name == "cpu" else 1) for name, value in limits.items()}


@given(CONTAINERS, CONTAINERS, LIMITS, LIMITS, st.sampled_from(["", "Infeasible"]))
def test_a_pod_counts_what_it_may_use_at_any_time_of_its_life(
    containers: list[Any], inits: list[Any], of_pod: dict[str, str], overhead: dict[str, str], stuck: str
) -> None:
    """It is Kubernetes' sum, written as the story of a pod: its init containers, and then its containers."""
    named = [(f"i{n}", *one) for n, one in enumerate(inits)]
    named += [(f"c{n}", limits, None, actual) for n, (limits, _, actual) in enumerate(containers)]
    spec = {
        "initContainers": [
            {
                "name": name,
                "resources": {"limits": limits},
                **({"restartPolicy": "Always"} if restarts else {}),
            }
            for name, limits, restarts, _ in named
            if restarts is not None
        ],
        "containers": [
            {"name": name, "resources": {"limits": limits}}
            for name, limits, restarts, _ in named
            if restarts is None
        ],
        "resources": {"limits": of_pod},
        "overhead": overhead,
    }
    status = {
        "containerStatuses": [
            {"name": name, "resources": {"limits": actual}}
            for name, _, _, actual in named
            if actual is not None
        ],
        "conditions": [INFEASIBLE] if stuck else [],
    }

    def size(limits: dict[str, str], actual: dict[str, str] | None, *, resizable: bool) -> Sizes:
        if actual is None or not resizable:
            return milli(limits)
        sizes = [milli(actual)] if stuck else [milli(limits), milli(actual)]
        return {name: max(one.get(name, 0) for one in sizes) for name in RESOURCES}

    running: list[Sizes] = []
    moments: list[list[Sizes]] = []
    for _, limits, restarts, actual in named:
        if restarts is None:
            running.append(size(limits, actual, resizable=True))
        else:
            one = size(limits, actual, resizable=restarts)
            moments.append([*running, one])
            if restarts:
                running.append(one)
    moments.append(running)

    counted = pod_limits(spec, status)
    for name in RESOURCES:
        most = max(sum(one.get(name, 0) for one in moment) for moment in moments)
        if name in of_pod and name != "nvidia.com/gpu":
            most = milli(of_pod)[name]
        elif most:
            largest = max(one.get(name, 0) for moment in moments for one in moment)
            assert counted[name] >= largest
        assert counted.get(name, 0) == (most + milli(overhead).get(name, 0) if most else 0)
