"""Jobs with all that their pods are made of: the minimal one, the full one, one with GPUs."""

from typing import Any

from pod_manager.grants import GroupVolume
from pod_manager.pod_builder import Ingredients
from pod_manager.volumes import GrantedDataset
from shared.settings import JobSubmission

Scene = tuple[dict[str, Any], Ingredients, JobSubmission]


def a_phjob(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A PhJob as it is admitted."""
    return {
        "metadata": {"name": "job-qm42d", "uid": "2d1f", "annotations": annotations or {}},
        "spec": {
            "command": 'echo "start"\n',
            "userName": "jackpan",
            "groupName": "test-job-submission",
            "image": "base-notebook",
            "instanceType": "cpu-tiny",
            **spec,
        },
        "status": {"fence": "s#1", "resources": {"cpu": "500m", "memory": "256Mi"}},
    }


def an_image(**spec: Any) -> dict[str, Any]:
    """An Image."""
    return {"metadata": {"name": "base-notebook"}, "spec": {"url": "jupyter/base-notebook:1", **spec}}


def an_instance_type(**spec: Any) -> dict[str, Any]:
    """An InstanceType, with PrimeHub's dotted keys."""
    return {"metadata": {"name": "cpu-tiny"}, "spec": {"requests.cpu": 0.1, "requests.memory": "64M", **spec}}


def a_dataset(name: str, *, writable: bool = False, **spec: Any) -> GrantedDataset:
    """A Dataset as it is granted."""
    annotations = spec.pop("annotations", {})
    return GrantedDataset(
        name, {"metadata": {"name": name, "annotations": annotations}, "spec": spec}, writable
    )


def minimal() -> Scene:
    """The seed's own job, without a settings file."""
    return a_phjob(), Ingredients(an_image(), an_instance_type()), JobSubmission()


def full() -> Scene:
    """Everything that a job, its groups, its instance type and the settings can say, but for GPUs."""
    job = a_phjob(
        annotations={"team": "vision", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        command="python train.py --lr=$LR\n",
        userName="Jack Pan",
        groupName="Test_Job",
        groupId="d8257cb0",
    )
    groups = [GroupVolume("Test_Job", home_symlink=True), GroupVolume("shared", home_symlink=False)]
    datasets = [
        a_dataset("claim", type="pv", volumeName="images", writable=True),
        a_dataset("folder", type="hostPath", hostPath={"path": "/data/folder"}),
        a_dataset("keys", type="env", variables={"api-key": "a$b"}),
        a_dataset("network", type="nfs", nfs={"server": "nas", "path": "/export"}),
        a_dataset(
            "repo",
            type="git",
            annotations={
                "dataset.primehub.io/mountRoot": "/repos",
                "dataset.primehub.io/homeSymlink": "true",
            },
        ),
    ]
    instance_type = an_instance_type(
        nodeSelector={"pool": "fast"}, tolerations=[{"key": "fast", "operator": "Exists"}]
    )
    settings = JobSubmission(
        workingDirSize="10Gi",
        grantSudo=True,
        timezone="Asia/Taipei",
        nodeSelector={"pool": "jobs", "zone": "a"},
        affinity={"podAntiAffinity": {}},
        tolerations=({"key": "jobs", "operator": "Exists"},),
    )
    image = an_image(pullSecret="registry")
    return job, Ingredients(image, instance_type, groups, datasets), settings


def gpu() -> Scene:
    """Two GPUs of another vendor's resource name."""
    job = a_phjob(instanceType="gpu-2")
    job["status"]["resources"] = {"cpu": "2", "memory": "4Gi", "amd.com/gpu": "2"}
    instance_type = {
        "metadata": {"name": "gpu-2"},
        "spec": {"requests.cpu": 1, "requests.gpu": 2, "requests.nvidia.com/gpu": 2},
    }
    image = an_image(urlForGpu="jupyter/base-notebook:1-gpu")
    return job, Ingredients(image, instance_type), JobSubmission()


SCENES = {"minimal": minimal(), "full": full(), "gpu": gpu()}
