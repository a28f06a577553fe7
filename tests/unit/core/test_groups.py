"""Which PhGroup counts for a group's name."""

from itertools import permutations

import pytest
from tests.fakes.facts import a_group, at

from phjob_core.groups import Groups, volume_folder
from phjob_core.labels import label_value
from phjob_core.messages import GroupSeen


def groups_of(*seen: GroupSeen) -> Groups:
    groups = Groups()
    for one in seen:
        groups.upsert(one)
    return groups


FIRST = a_group("z-first", group="vision", created=at(0))
SECOND = a_group("a-second", group="vision", created=at(1))
THIRD = a_group("third", group="Vision", created=at(2))


@pytest.mark.parametrize("observed", list(permutations((FIRST, SECOND, THIRD))))
def test_the_oldest_of_several_counts_in_whatever_order_they_are_observed(
    observed: tuple[GroupSeen, ...],
) -> None:
    """Its name does not matter, and the others grant nothing (spec.md, A13)."""
    groups = groups_of(*observed)
    assert groups.get("vision") == FIRST
    assert groups.get("Vision") is None
    assert groups.counting() == [FIRST]
    assert [groups.counts(one) for one in (FIRST, SECOND, THIRD)] == [True, False, False]
    assert set(groups) == {"vision", "Vision"}


def test_of_two_groups_of_one_second_the_first_by_name_counts() -> None:
    """Kubernetes has no smaller unit. A watcher before release 0.1 sends no time at all."""
    for created in (at(0), None):
        groups = groups_of(*(a_group(name, group="g", created=created) for name in ("b", "a")))
        assert groups.counting() == [groups.get("g")]
        (counting,) = groups.counting()
        assert counting.name == "a"


def test_a_refused_group_counts_once_the_older_one_is_gone() -> None:
    """The jobs of both names must be checked again."""
    groups = groups_of(FIRST, SECOND, THIRD)
    assert groups.delete(FIRST.name) == {"vision", "Vision"}
    assert groups.get("vision") == SECOND
    assert groups.delete(SECOND.name) == {"vision", "Vision"}
    assert (groups.get("vision"), groups.get("Vision")) == (None, THIRD)
    assert groups.delete(THIRD.name) == {"Vision"}
    assert list(groups) == []


def test_a_new_group_changes_nothing_for_an_older_one() -> None:
    """Whoever may create a PhGroup must not stop another one."""
    groups = groups_of(FIRST)
    for name in ("vision", "VISION"):
        groups.upsert(a_group(f"new-{name.lower()}", group=name, created=at(5)))
        assert groups.get("vision") == FIRST
        assert not groups.refusal("vision")


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("Team_A", "team-a", True),
        ("team_a", "team-a", True),
        ("Team A", "team-a", False),
        ("team.a", "team-a", False),
        ("x" * 80, "x" * 81, False),
    ],
)
def test_names_that_share_a_claim_are_one_name(one: str, other: str, *, shared: bool) -> None:
    """Without this, the jobs of two groups would read and write one volume (spec.md, A13)."""
    assert (volume_folder(one) == volume_folder(other)) is shared
    groups = groups_of(a_group("one", group=one, created=at(0)), a_group("two", group=other, created=at(1)))
    assert (groups.get(other) is None) is shared


def test_names_that_share_a_label_value_are_one_name() -> None:
    """A long name's label value ends in a hash, and a shorter name can end in the same digits."""
    long = next(name for n in range(5000) if label_value(name := f"{'a' * 60}{n}")[-17:-14] == "-2e")
    short = f"{'a' * 38}.{label_value(long)[-14:]}"
    assert label_value(short) == label_value(long)
    groups = groups_of(a_group("one", group=long, created=at(0)), a_group("two", group=short, created=at(1)))
    assert (groups.get(long), groups.get(short)) == (groups.counting()[0], None)
    assert [seen.name for seen in groups.with_label(label_value(long))] == ["one", "two"]


def test_a_refusal_names_the_older_object_and_the_remedy() -> None:
    """The administrator reads it in the status, and a user in the status of a job."""
    groups = groups_of(FIRST, SECOND, THIRD)
    assert groups.refusal("vision", SECOND.name) == (
        "the older PhGroup 'z-first' has the same group name; "
        "delete one of the two, or create this one again with another groupName"
    )
    assert groups.refusal("Vision") == groups.refusal("Vision", THIRD.name)
    assert groups.refusal("Vision") == (
        "the older PhGroup 'z-first' has the group name 'vision', and names that differ only in case, "
        'or in "-" and "_", count as one; create this group again with another groupName'
    )
    assert groups.refusal("vision") == groups.refusal("vision", FIRST.name) == groups.refusal("other") == ""


def test_a_renamed_group_no_longer_has_its_old_name() -> None:
    """A PhGroup may be deleted and created again between two facts."""
    groups = groups_of(a_group("object", group="vision"))
    assert groups.upsert(a_group("object", group="speech")) == {"vision", "speech"}
    assert groups.get("vision") is None
    assert list(groups) == ["speech"]
    assert "speech" in groups


def test_the_deletion_of_an_unknown_object_changes_nothing() -> None:
    """A deletion may be observed without the object."""
    assert Groups().delete("vision") == set()


def test_nothing_is_kept_of_groups_that_are_gone() -> None:
    """Groups come and go for years."""
    groups = groups_of(*(a_group(f"g-{n}", group=f"Group_{n}") for n in range(100)))
    for n in range(100):
        groups.delete(f"g-{n}")
    assert not any(vars(groups).values())
