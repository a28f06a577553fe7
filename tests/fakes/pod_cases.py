"""Jobs with the inputs of their pods: a minimal job, a full one, a restricted one, and one with GPUs."""

from typing import Any

from tests.fakes.facts import a_group

from phjob_pod_manager.manifest.builder import PodInputs
from phjob_pod_manager.manifest.grants import GroupVolume
from phjob_pod_manager.manifest.volumes import GrantedDataset
from phjob_runtime.settings import JobSubmission

Case = tuple[dict[str, Any], PodInputs, JobSubmission]


def a_phjob(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a PhJob as it is admitted."""
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
    """Return an Image."""
    return {"metadata": {"name": "base-notebook"}, "spec": {"url": "jupyter/base-notebook:1", **spec}}


def an_instance_type(**spec: Any) -> dict[str, Any]:
    """Return an InstanceType, with PrimeHub's dotted keys."""
    return {"metadata": {"name": "cpu-tiny"}, "spec": {"requests.cpu": 0.1, "requests.memory": "64M", **spec}}


def a_dataset(name: str, *, writable: bool = False, **spec: Any) -> GrantedDataset:
    """Return a Dataset as it is granted."""
    annotations = spec.pop("annotations", {})
    metadata = {"name": name, "uid": f"uid-{name}", "annotations": annotations}
    return GrantedDataset(name, {"metadata": metadata, "spec": spec}, writable)


def minimal() -> Case:
    """Return the example job, without a settings file."""
    return a_phjob(), PodInputs(an_image(), an_instance_type()), JobSubmission()


def full() -> Case:
    """Return a job that uses every field of its groups, its instance type and the settings, except GPUs."""
    job = a_phjob(
        annotations={
            "team": "vision",
            "example.com/iam-role": "admin",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        },
        command="python train.py --lr=$LR\n",
        userName="Jack Pan",
        groupName="Test_Job",
        groupId="d8257cb0",
    )
    groups = [GroupVolume("Test_Job", home_symlink=True), GroupVolume("shared", home_symlink=False)]
    datasets = [
        a_dataset("claim", type="pv", volumeName="images", writable=True),
        a_dataset("folder", type="hostPath", hostPath={"path": "/data/folder"}),
        a_dataset("keys", type="env", variables={"api-key": "a$b", "port": 1}),
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
        ephemeralStorage="20Gi",
        grantSudo=True,
        groupProfile=True,
        timezone="Asia/Taipei",
        nodeSelector={"pool": "jobs", "zone": "a"},
        affinity={"podAntiAffinity": {}},
        tolerations=({"key": "jobs", "operator": "Exists"},),
        priorityClassName="jobs",
        runtimeClassName="sandboxed",
        serviceAccountName="jobs",
        imagePullSecrets=[{"name": "registry"}, {"name": "mirror"}],
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        copyAnnotations=("team",),
        podAnnotations={"example.com/collect-logs": "true"},
        podLabels={"cost-center": "research"},
    )
    image = an_image(pullSecret="registry")
    return job, PodInputs(image, instance_type, groups, datasets), settings


def restricted() -> Case:
    """Return a job without a deadline, in a group with the security profile `restricted`."""
    job = a_phjob(annotations={"dev.primehub.io/run-for": "1s"}, activeDeadlineSeconds=0)
    job["status"]["resources"]["ephemeral-storage"] = "10Gi"
    group = a_group("test-job-submission", security_profile="restricted")
    return job, PodInputs(an_image(), an_instance_type(), own_group=group), JobSubmission()


def gpu() -> Case:
    """Return a job with two GPUs under the resource name of another vendor."""
    job = a_phjob(instanceType="gpu-2")
    job["status"]["resources"] = {"cpu": "2", "memory": "4Gi", "amd.com/gpu": "2"}
    instance_type = {
        "metadata": {"name": "gpu-2"},
        "spec": {"requests.cpu": 1, "requests.gpu": 2, "requests.nvidia.com/gpu": 2},
    }
    image = an_image(urlForGpu="jupyter/base-notebook:1-gpu")
    return job, PodInputs(image, instance_type), JobSubmission()


CASES = {"minimal": minimal(), "full": full(), "restricted": restricted(), "gpu": gpu()}
