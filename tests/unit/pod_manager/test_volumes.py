from typing import Any

import pytest

from pod_manager.grants import GroupVolume
from pod_manager.volumes import GrantedDataset, Parts, parts


def a_dataset(name: str = "ds", *, writable: bool = False, **fields: Any) -> GrantedDataset:
    annotations = {f"dataset.primehub.io/{k}": v for k, v in fields.pop("annotations", {}).items()}
    return GrantedDataset(name, {"metadata": {"annotations": annotations}, "spec": fields}, writable)


def only(made: Parts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dataset's volume and mount, without the names that hold them together."""
    (volume,) = [v for v in made.volumes if v["name"] == "dataset-0"]
    (mount,) = [m for m in made.mounts if m["name"] == "dataset-0"]
    return ({k: v for k, v in volume.items() if k != "name"}, {k: v for k, v in mount.items() if k != "name"})


def test_the_folders_are_those_of_the_seed() -> None:
    """Seed, Folder Structure: /datasets and /project, linked into the home directory."""
    made = parts(
        [GroupVolume("group1", home_symlink=True), GroupVolume("Group_2", home_symlink=False)],
        [a_dataset("ds1", type="pv", volumeName="one")],
    )
    assert made.links == [
        ("/datasets", "/home/jovyan/datasets"),
        ("/project/group1", "/home/jovyan/group1"),
        ("/mnt/dataset-ds1", "/datasets/ds1"),
    ]
    assert made.mounts == [
        {"name": "datasets", "mountPath": "/datasets"},
        {"name": "group-0", "mountPath": "/project/group1"},
        {"name": "group-1", "mountPath": "/project/group-2"},
        {"name": "dataset-0", "mountPath": "/mnt/dataset-ds1", "readOnly": True},
    ]
    assert made.volumes[2]["persistentVolumeClaim"] == {"claimName": "project-group-2"}


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
def test_a_dataset_is_mounted_from_where_its_type_says(spec: dict[str, Any], source: dict[str, Any]) -> None:
    """Read-only unless it is granted writable."""
    made = parts([], [a_dataset(**spec)])
    assert only(made) == (source, {"mountPath": "/mnt/dataset-ds", "readOnly": True})
    assert only(parts([], [a_dataset(writable=True, **spec)]))[1] == {"mountPath": "/mnt/dataset-ds"}


def test_a_git_dataset_is_the_folder_that_git_sync_fills_and_never_writable() -> None:
    """contract.md, The pod."""
    made = parts([], [a_dataset(type="git", writable=True)])
    assert only(made) == (
        {"hostPath": {"path": "/home/dataset/ds"}},
        {"mountPath": "/mnt/dataset-ds", "readOnly": True},
    )
    assert ("/mnt/dataset-ds/ds", "/datasets/ds") in made.links
    elsewhere = parts([], [a_dataset(type="git", annotations={"gitSyncHostRoot": "/srv/git/"})])
    assert only(elsewhere)[0] == {"hostPath": {"path": "/srv/git/ds"}}


def test_an_env_dataset_is_there_under_both_spellings() -> None:
    """PrimeHub's console leaves __typename behind; a name that starts with a digit is none."""
    made = parts(
        [], [a_dataset("my-ds", type="env", variables={"key": "v", "on": True, "n": 1, "__typename": "x"})]
    )
    assert made.env == {
        "MY-DS_KEY": "v",
        "MY_DS_KEY": "v",
        "MY-DS_ON": "true",
        "MY_DS_ON": "true",
        "MY-DS_N": "1",
        "MY_DS_N": "1",
    }
    assert parts([], [a_dataset("3d", type="env", variables={"k": "v"})]).notices == [
        "dataset 3d: 3D_K is no name of a variable"
    ]


def test_a_mount_root_of_its_own_gets_a_folder_for_its_links() -> None:
    """The command's user could not make it."""
    datasets = [
        a_dataset(
            name, type="pv", volumeName=name, annotations={"mountRoot": "/data/", "homeSymlink": "true"}
        )
        for name in ("a", "b")
    ]
    made = parts([], datasets)
    assert [v["mountPath"] for v in made.mounts if v["name"].startswith("mount-root")] == ["/data"]
    assert ("/mnt/dataset-a", "/data/a") in made.links
    assert ("/data/a", "/home/jovyan/a") in made.links


@pytest.mark.parametrize(
    "dataset",
    [
        GrantedDataset("bad", None, writable=False),
        a_dataset("bad", type="pv"),
        a_dataset("bad", type="pv", volumeName="v", annotations={"mountRoot": "/usr"}),
        a_dataset("bad", type="pv", volumeName="v", annotations={"mountRoot": "relative"}),
    ],
)
def test_a_dataset_that_can_not_be_given_is_told_and_harms_nobody(dataset: GrantedDataset) -> None:
    """The job runs with the others."""
    made = parts([], [dataset, a_dataset("good", type="pv", volumeName="g")])
    (notice,) = made.notices
    assert notice.startswith("dataset bad")
    assert ("/mnt/dataset-good", "/datasets/good") in made.links
