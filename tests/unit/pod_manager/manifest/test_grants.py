from tests.fakes.facts import a_group

from phjob_core.messages import DatasetGrant
from phjob_pod_manager.manifest.grants import GroupVolume, datasets, group_volumes


def folders(group: str, user: str, *groups: object) -> list[str]:
    return [volume.folder for volume in group_volumes(group, user, groups)]  # type: ignore[arg-type]


def test_a_job_mounts_the_volume_of_its_group() -> None:
    """Only if the group has one (spec.md, P7)."""
    assert folders("phusers", "bob", a_group(shared_volume=True)) == ["phusers"]
    assert folders("phusers", "bob", a_group()) == []


def test_a_job_mounts_the_shared_volumes_of_its_users_other_groups() -> None:
    """Only those with `launchGroupOnly: false` (spec.md, P7)."""
    launch = a_group("phusers", shared_volume=True)
    shared = {"shared_volume": True, "launch_group_only": False}
    assert folders("phusers", "bob", a_group("a", users=("bob",), **shared), launch) == ["phusers", "a"]
    assert folders("phusers", "bob", a_group("a", users=("lin",), **shared), launch) == ["phusers"]
    assert folders("phusers", "bob", a_group("a", **shared), launch) == ["phusers", "a"]
    private = a_group("a", users=("bob",), shared_volume=True)
    assert folders("phusers", "bob", private, launch) == ["phusers"]


def test_the_folder_of_a_volume_has_primehubs_spelling() -> None:
    """Lower case, and `_` as `-` (spec.md, P7)."""
    assert GroupVolume("My_Group", home_symlink=True).folder == "my-group"


def test_datasets_come_from_the_launch_group_and_from_everyone() -> None:
    """A dataset is writable if either grant is. Other groups grant nothing."""

    def grant(name: str, *, writable: bool) -> DatasetGrant:
        return DatasetGrant(name=name, writable=writable)

    groups = [
        a_group("phusers", datasets=(grant("a", writable=False), grant("b", writable=True))),
        a_group("everyone", datasets=(grant("a", writable=True), grant("b", writable=False))),
        a_group("other", datasets=(grant("c", writable=True),)),
    ]
    assert datasets("phusers", groups) == {"a": True, "b": True}
    assert datasets("nobody", groups) == {"a": True, "b": False}
