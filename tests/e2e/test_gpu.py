"""GPUs, on a node that has four of them."""

from collections.abc import Iterator

import pytest
from tests.support.builders import an_image
from tests.support.hub import Hub, corner
from tests.support.scene import FOREVER, Scene, settled

from dev.stack import Stack


@pytest.fixture(scope="module")
def gpu_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, whose one node has four GPUs."""
    with Stack(tmp_path_factory.mktemp("gpu"), node="kwok", capacity={"nvidia.com/gpu": "4"}) as stack:
        yield stack


@pytest.fixture
def gpu_hub(gpu_stack: Stack) -> Iterator[Hub]:
    """This test's corner of it."""
    with corner(gpu_stack) as hub:
        yield hub


def test_a_gpu_job_gets_the_gpu_image_and_its_gpus(gpu_hub: Hub) -> None:
    """contract.md, Image: `urlForGpu` counts when the instance type has GPUs, and only then."""
    scene = Scene(gpu_hub, "gpu").make()
    (image,) = gpu_hub.create(an_image(gpu_hub.name("both"), urlForGpu="primehub.dev/base-notebook:gpu"))
    scene.grants(images=(image,))
    jobs = {gpus: scene.submit(f"gpu-{gpus}", gpus=gpus, image=image, run_for=FOREVER) for gpus in (0, 2)}
    for gpus, url in ((0, "primehub.dev/base-notebook:busybox"), (2, "primehub.dev/base-notebook:gpu")):
        gpu_hub.reaches(jobs[gpus], "Running")
        pod = gpu_hub.pod(jobs[gpus])
        assert pod
        (container,) = pod.object["spec"]["containers"]
        assert container["image"] == url
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (str(gpus) if gpus else None)
    assert gpu_hub.status(jobs[2])["resources"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("user_of_b", "running", "reason"),
    [("pan", ["a"], "GroupQuota"), ("bob", ["a", "c"], "UserQuota")],
    ids=["example-1", "example-2"],
)
def test_the_seeds_examples_run_on_real_gpu_numbers(
    gpu_hub: Hub, user_of_b: str, running: list[str], reason: str
) -> None:
    """Seed, Scheduler: with pods that the node has room for, run out in order."""
    quota = {"gpu": 4}
    scene = Scene(gpu_hub, "phusers", {"userQuota": quota, "groupQuota": quota}).make()
    jobs = [
        scene.job("a", user="bob", gpus=2, run_for=FOREVER),
        scene.job("b", user=user_of_b, gpus=4),
        scene.job("c", user="lin", gpus=2, run_for=FOREVER if "c" in running else None),
    ]
    names = dict(zip("abc", gpu_hub.kubectl_create(*jobs), strict=True))
    for letter in running:
        gpu_hub.reaches(names[letter], "Running")
    gpu_hub.says(names["b"], reason, "gpu")
    settled(gpu_hub)
    for letter in running:
        gpu_hub.cancel(names[letter])
    for letter in set(names) - set(running):
        gpu_hub.reaches(names[letter], "Succeeded")
