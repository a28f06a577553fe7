"""GPUs, on a node that has four of them."""

from collections.abc import Iterator

import pytest
from tests.support.builders import an_image
from tests.support.cluster import Cluster, cluster_on
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent

from dev.stack import Stack


@pytest.fixture(scope="module")
def gpu_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a separate stack whose only node has four GPUs."""
    with Stack(tmp_path_factory.mktemp("gpu"), node="kwok", capacity={"nvidia.com/gpu": "4"}) as stack:
        yield stack


@pytest.fixture
def gpu_cluster(gpu_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on that stack."""
    with cluster_on(gpu_stack) as cluster:
        yield cluster


def test_a_gpu_job_gets_the_gpu_image_and_its_gpus(gpu_cluster: Cluster) -> None:
    """`urlForGpu` is used if the instance type has GPUs, and only then (spec.md, A9)."""
    group = GroupFixture(gpu_cluster, "gpu").create()
    (image,) = gpu_cluster.create(
        an_image(gpu_cluster.unique_name("both"), urlForGpu="primehub.dev/base-notebook:gpu")
    )
    group.grant(images=(image,))
    jobs = {gpus: group.submit(f"gpu-{gpus}", gpus=gpus, image=image, run_for=FOREVER) for gpus in (0, 2)}
    for gpus, url in ((0, "primehub.dev/base-notebook:busybox"), (2, "primehub.dev/base-notebook:gpu")):
        gpu_cluster.wait_for_phase(jobs[gpus], "Running")
        pod = gpu_cluster.pod(jobs[gpus])
        assert pod
        (container,) = pod.object["spec"]["containers"]
        assert container["image"] == url
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (str(gpus) if gpus else None)
    assert gpu_cluster.status(jobs[2])["resources"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("user_of_b", "running", "reason"),
    [("pan", ["a"], "GroupQuota"), ("bob", ["a", "c"], "UserQuota")],
    ids=["example-1", "example-2"],
)
def test_the_examples_of_the_specification_run_on_real_gpu_numbers(
    gpu_cluster: Cluster, user_of_b: str, running: list[str], reason: str
) -> None:
    """The node has room for the pods that run, and the other jobs follow in order (spec.md, Q2a, Q2b)."""
    quota = {"gpu": 4}
    group = GroupFixture(gpu_cluster, "phusers", {"userQuota": quota, "groupQuota": quota}).create()
    jobs = [
        group.job_manifest("a", user="bob", gpus=2, run_for=FOREVER),
        group.job_manifest("b", user=user_of_b, gpus=4),
        group.job_manifest("c", user="lin", gpus=2, run_for=FOREVER if "c" in running else None),
    ]
    names = dict(zip("abc", gpu_cluster.kubectl_create(*jobs), strict=True))
    for letter in running:
        gpu_cluster.wait_for_phase(names[letter], "Running")
    gpu_cluster.wait_for_reason(names["b"], reason, "gpu")
    wait_until_quiescent(gpu_cluster)
    for letter in running:
        gpu_cluster.cancel(names[letter])
    for letter in set(names) - set(running):
        gpu_cluster.wait_for_phase(names[letter], "Succeeded")
