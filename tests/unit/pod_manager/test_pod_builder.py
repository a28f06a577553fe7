import json
from typing import Any

import pytest

from pod_manager.pod_builder import Ingredients, UnbuildableError, build
from shared.settings import JobSubmission

SETTINGS = JobSubmission()


def a_phjob(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "job-qm42d",
            "uid": "2d1f",
            "annotations": {
                "team": "vision",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        },
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


IMAGE = {"metadata": {"name": "base-notebook"}, "spec": {"url": "img:1", "urlForGpu": "img:gpu"}}
CPU_TINY = {
    "spec": {"limits.cpu": 0.5, "limits.memory": "256M", "requests.cpu": 0.1, "requests.memory": "64M"}
}


def test_the_minimal_jobs_pod_is_this() -> None:
    """contract.md, The pod; the volumes of groups and datasets come on top of it."""
    pod = build(a_phjob(), Ingredients(IMAGE, CPU_TINY), SETTINGS)
    usage = json.loads(pod["metadata"]["annotations"].pop("primehub.io/usage"))
    assert usage == {
        "component": "job",
        "component_name": "job-qm42d",
        "instance_type": "cpu-tiny",
        "group": "test-job-submission",
        "user": "jackpan",
    }
    assert pod["metadata"] == {
        "name": "job-qm42d",
        "labels": {
            "app": "primehub-job",
            "primehub.io/group": "escaped-test-2djob-2dsubmission",
            "primehub.io/user": "escaped-jackpan",
            "primehub.io/phjob-uid": "2d1f",
        },
        "annotations": {"team": "vision", "primehub.io/fence": "s#1"},
        "ownerReferences": [
            {
                "apiVersion": "primehub.io/v1alpha1",
                "kind": "PhJob",
                "name": "job-qm42d",
                "uid": "2d1f",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    (container,) = pod["spec"]["containers"]
    assert container["command"][-1] == 'echo "start"\n'
    assert container["image"] == "img:1"
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": "256Mi"},
        "requests": {"cpu": "100m", "memory": "64Mi"},
    }
    assert {env["name"]: env["value"] for env in container["env"]} == {
        "PRIMEHUB_USER": "jackpan",
        "PRIMEHUB_GROUP": "test-job-submission",
        "GROUP_ID": "",
        "GROUP_NAME": "test-job-submission",
        "JUPYTERHUB_USER": "jackpan",
        "INSTANCE_TYPE": "cpu-tiny",
        "IMAGE_NAME": "base-notebook",
        "PHJOB_NAME": "job-qm42d",
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["volumes"][0] == {"name": "home", "emptyDir": {"sizeLimit": "5Gi"}}
    assert container["workingDir"] == "/home/jovyan"


def test_a_gpu_job_gets_the_gpu_image_and_gpus_in_the_limits_only() -> None:
    """contract.md, Image and The pod."""
    job = a_phjob()
    job["status"]["resources"] = {"cpu": "2", "nvidia.com/gpu": "1"}
    instance_type = {"spec": {"requests.cpu": 1, "requests.nvidia.com/gpu": 1}}
    (container,) = build(job, Ingredients(IMAGE, instance_type), SETTINGS)["spec"]["containers"]
    assert container["image"] == "img:gpu"
    assert container["resources"] == {
        "limits": {"cpu": "2", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "1"},
    }


def test_the_instance_types_scheduling_stands_on_top_of_the_settings() -> None:
    """contract.md, The pod: nodeSelector and tolerations."""
    settings = JobSubmission(
        nodeSelector={"pool": "jobs", "zone": "a"}, tolerations=({"key": "jobs", "operator": "Exists"},)
    )
    instance_type = {"spec": {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "gpu"}]}}
    spec = build(a_phjob(), Ingredients(IMAGE, instance_type), settings)["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu", "zone": "a"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == [
        "jobs",
        "gpu",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]


def test_a_dollar_in_a_name_reaches_the_command_as_it_is() -> None:
    """Kubernetes would expand $(NAME) in a variable's value."""
    (container,) = build(a_phjob(userName="$(PATH)"), Ingredients(IMAGE, CPU_TINY), SETTINGS)["spec"][
        "containers"
    ]
    assert {"name": "PRIMEHUB_USER", "value": "$$(PATH)"} in container["env"]


def test_an_image_without_a_url_is_named() -> None:
    """The job fails with PodCreationFailed and this text."""
    with pytest.raises(UnbuildableError, match="image 'empty' has no url"):
        build(a_phjob(), Ingredients({"metadata": {"name": "empty"}, "spec": {}}, CPU_TINY), SETTINGS)
