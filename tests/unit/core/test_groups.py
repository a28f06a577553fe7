"""The PhGroup that counts for a group's name."""

from tests.fakes.facts import a_group

from phjob_core.groups import Groups


def test_a_renamed_group_no_longer_has_its_old_name() -> None:
    """The jobs of both names must be checked again."""
    groups = Groups()
    assert groups.upsert(a_group("object", group="vision")) == {"vision"}
    assert groups.upsert(a_group("object", group="speech")) == {"vision", "speech"}
    assert groups.get("vision") is None
    assert list(groups) == ["speech"]


def test_the_first_of_two_objects_with_one_name_counts_until_it_is_gone() -> None:
    """The order in which they are observed must not matter (spec.md, A6)."""
    groups = Groups()
    first, second = a_group("a", group="vision"), a_group("b", group="vision")
    groups.upsert(second)
    groups.upsert(first)
    assert groups.get("vision") == first
    assert groups.delete("a") == {"vision"}
    assert groups.get("vision") == second
    assert groups.delete("b") == {"vision"}
    assert groups.get("vision") is None


def test_the_deletion_of_an_unknown_object_changes_nothing() -> None:
    """A deletion may be observed without the object."""
    assert Groups().delete("vision") == set()
