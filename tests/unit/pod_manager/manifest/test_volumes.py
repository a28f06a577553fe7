from typing import Any

import pytest

from phjob_pod_manager.manifest.dataset_secret import SecretKey
from phjob_pod_manager.manifest.grants import GroupVolume
from phjob_pod_manager.manifest.volumes import GrantedDataset, VolumeSpec, volume_spec


def a_dataset(name: str = "ds", *, writable: bool = False, **fields: Any) -> GrantedDataset:
    annotations = {f"dataset.primehub.io/{k}": v for k, v in fields.pop("annotations", {}).items()}
    metadata = {"name": name, "uid": f"uid-{name}", "annotations": annotations}
    return GrantedDataset(name, {"metadata": metadata, "spec": fields}, writable)


def only(added: VolumeSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the dataset's volume and mount, without the name that connects them."""
    (volume,) = [v for v in added.volumes if v["name"] == "dataset-0"]
    (mount,) = [m for m in added.mounts if m["name"] == "dataset-0"]
    return ({k: v for k, v in volume.items() if k != "name"}, {k: v for k, v in mount.items() if k != "name"})


def test_the_folders_are_those_of_the_specification() -> None:
    """/datasets and /project are linked into the home directory (spec.md, P6)."""
    added = volume_spec(
        [GroupVolume("group1", home_symlink=True), GroupVolume("Group_2", home_symlink=False)],
        [a_dataset("ds1", type="pv", volumeName="one")],
    )
    assert added.links == [
        ("/datasets", "/home/jovyan/datasets"),
        ("/project/group1", "/home/jovyan/group1"),
        ("/mnt/dataset-ds1", "/datasets/ds1"),
    ]
    assert added.mounts == [
        {"name": "datasets", "mountPath": "/datasets"},
        {"name": "group-0", "mountPath": "/project/group1"},
        {"name": "group-1", "mountPath": "/project/group-2"},
        {"name": "dataset-0", "mountPath": "/mnt/dataset-ds1", "readOnly": True},
    ]
    assert added.volumes[2]["persistentVolumeClaim"] == {"claimName": "project-group-2"}


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ({"type": "pv", "volumeName": "v"}, {"persistentVolumeClaim": {"claimName": "dataset-v"}}),
        ({"type": "pv", "volumeName": "hostpath:/data"}, {"hostPath": {"path": "/data"}}),
        ({"type": "hostPath", "hostPath": {"path": "/data"}}, {"hostPath": {"path": "/data"}}),
        (
            {"type": "nfs", "nfs": {"server": "n", "path": "/p"}},
            {"nfs": {"server": "n", "path": "/p"}},
        ),
    ],
)
def test_the_type_of_a_dataset_decides_its_source(spec: dict[str, Any], source: dict[str, Any]) -> None:
    """It is read-only unless it is granted writable (spec.md, P8)."""
    added = volume_spec([], [a_dataset(**spec)])
    assert only(added) == (source, {"mountPath": "/mnt/dataset-ds", "readOnly": True})
    assert only(volume_spec([], [a_dataset(writable=True, **spec)]))[1] == {"mountPath": "/mnt/dataset-ds"}


def test_a_git_dataset_is_the_folder_that_git_sync_fills_and_never_writable() -> None:
    """Its annotation can name another folder of the node (spec.md, P8)."""
    added = volume_spec([], [a_dataset(type="git", writable=True)])
    assert only(added) == (
        {"hostPath": {"path": "/home/dataset/ds"}},
        {"mountPath": "/mnt/dataset-ds", "readOnly": True},
    )
    assert ("/mnt/dataset-ds/ds", "/datasets/ds") in added.links
    elsewhere = volume_spec([], [a_dataset(type="git", annotations={"gitSyncHostRoot": "/srv/git/"})])
    assert only(elsewhere)[0] == {"hostPath": {"path": "/srv/git/ds"}}


def test_each_variable_of_an_env_dataset_has_two_names() -> None:
    """Both take their value from the Secret. Invalid names are left out with a warning."""
    variables = {"key": "v", "on": True, "__typename": "x"}
    added = volume_spec([], [a_dataset("my-ds", type="env", variables=variables)])
    secret = "phjob-dataset-my-ds"
    assert added.env == {
        "MY-DS_KEY": SecretKey(secret, "MY-DS_KEY"),
        "MY_DS_KEY": SecretKey(secret, "MY-DS_KEY"),
        "MY-DS_ON": SecretKey(secret, "MY-DS_ON"),
        "MY_DS_ON": SecretKey(secret, "MY-DS_ON"),
    }
    assert volume_spec([], [a_dataset("3d", type="env", variables={"k": "v"})]).warnings == [
        "dataset 3d: 3D_K is not a valid environment variable name"
    ]


def test_a_variable_that_no_shell_can_use_is_also_a_file() -> None:
    """The entrypoint reads it there, because a POSIX sh drops it. Other variables need no file."""
    added = volume_spec([], [a_dataset("my-ds", type="env", variables={"key": "v"})])
    assert added.files == {"MY-DS_KEY": "/mnt/dataset-my-ds/MY-DS_KEY"}
    items = [{"key": "MY-DS_KEY", "path": "MY-DS_KEY"}]
    assert only(added) == (
        {"secret": {"secretName": "phjob-dataset-my-ds", "items": items}},
        {"mountPath": "/mnt/dataset-my-ds", "readOnly": True},
    )
    plain = volume_spec([], [a_dataset("ds", type="env", variables={"key": "v"})])
    assert (plain.files, [v["name"] for v in plain.volumes]) == ({}, ["datasets"])


def test_of_two_datasets_with_the_same_variable_the_last_counts() -> None:
    """Also where one of them has a file for it."""
    first = a_dataset("a", type="env", variables={"b.c": "1"})
    last = a_dataset("a-b", type="env", variables={"c": "1"})
    added = volume_spec([], [first, last])
    assert added.env["A-B_C"] == SecretKey("phjob-dataset-a-b", "A-B_C")
    assert added.files == {"A_B.C": "/mnt/dataset-a/A_B.C", "A-B_C": "/mnt/dataset-a-b/A-B_C"}
    assert added.env["A_B_C"] == SecretKey("phjob-dataset-a-b", "A-B_C")


def test_a_dataset_whose_name_is_too_long_for_a_secret_is_left_out() -> None:
    """The job's log names it."""
    added = volume_spec([], [a_dataset("n" * 240, type="env", variables={"key": "v"})])
    assert (added.env, len(added.warnings)) == ({}, 1)
    assert "too long" in added.warnings[0]


def test_another_mount_root_gets_a_folder_for_its_links() -> None:
    """The user of the command has no right to create it."""
    datasets = [
        a_dataset(
            name, type="pv", volumeName=name, annotations={"mountRoot": "/data/", "homeSymlink": "true"}
        )
        for name in ("a", "b")
    ]
    added = volume_spec([], datasets)
    assert [v["mountPath"] for v in added.mounts if v["name"].startswith("mount-root")] == ["/data"]
    assert ("/mnt/dataset-a", "/data/a") in added.links
    assert ("/data/a", "/home/jovyan/a") in added.links


@pytest.mark.parametrize(
    "dataset",
    [
        GrantedDataset("bad", None, writable=False),
        a_dataset("bad", type="pv"),
        a_dataset("bad", type="pv", volumeName="v", annotations={"mountRoot": "/usr"}),
        a_dataset("bad", type="pv", volumeName="v", annotations={"mountRoot": "relative"}),
    ],
)
def test_an_unusable_dataset_gives_a_warning_and_affects_no_other(dataset: GrantedDataset) -> None:
    """The job runs without it (spec.md, P8)."""
    added = volume_spec([], [dataset, a_dataset("good", type="pv", volumeName="g")])
    (warning,) = added.warnings
    assert warning.startswith("dataset bad")
    assert ("/mnt/dataset-good", "/datasets/good") in added.links
