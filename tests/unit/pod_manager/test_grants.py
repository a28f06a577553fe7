from tests.unit.facts import a_group

from pod_manager.grants import GroupVolume, datasets, group_volumes
from shared.messages import DatasetGrant


def folders(group: str, user: str, *groups: object) -> list[str]:
    return [volume.folder for volume in group_volumes(group, user, groups)]  # type: ignore[arg-type]


def test_the_launch_groups_volume_is_there_if_it_has_one() -> None:
    """Seed, Shared Volume."""
    assert folders("phusers", "bob", a_group(shared_volume=True)) == ["phusers"]
    assert folders("phusers", "bob", a_group()) == []


def test_another_groups_volume_is_there_if_it_shares_and_the_user_is_a_member() -> None:
    """contract.md, The pod: only with `launchGroupOnly: false`."""
    launch = a_group("phusers", shared_volume=True)
    shared = {"shared_volume": True, "launch_group_only": False}
    assert folders("phusers", "bob", a_group("a", users=("bob",), **shared), launch) == ["phusers", "a"]
    assert folders("phusers", "bob", a_group("a", users=("lin",), **shared), launch) == ["phusers"]
    assert folders("phusers", "bob", a_group("a", **shared), launch) == ["phusers", "a"]
    private = a_group("a", users=("bob",), shared_volume=True)
    assert folders("phusers", "bob", private, launch) == ["phusers"]


def test_a_volumes_name_is_spelt_as_primehub_does() -> None:
    """Lower case, `_` as `-`; two groups with one claim mount it once."""
    assert GroupVolume("My_Group", home_symlink=True).folder == "my-group"
    shared = {"shared_volume": True, "launch_group_only": False}
    assert folders("A_b", "bob", a_group("A_b", **shared), a_group("a-b", **shared)) == ["a-b"]


def test_datasets_come_from_the_launch_group_and_from_everyone() -> None:
    """Writable if either says so; other groups grant nothing."""

    def grant(name: str, *, writable: bool) -> DatasetGrant:
        return DatasetGrant(name=name, writable=writable)

    groups = [
        a_group("phusers", datasets=(grant("a", writable=False), grant("b", writable=True))),
        a_group("everyone", datasets=(grant("a", writable=True), grant("b", writable=False))),
        a_group("other", datasets=(grant("c", writable=True),)),
    ]
    assert datasets("phusers", groups) == {"a": True, "b": True}
    assert datasets("nobody", groups) == {"a": True, "b": False}
