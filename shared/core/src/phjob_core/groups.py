"""PhGroups by the name that jobs give, and which of them count. Pure.

Two groups must not share a queue, a pool or a volume. Therefore only the oldest of the PhGroups that have one
group name, one label value or one claim counts (spec.md, A13). The others are refused. A new PhGroup changes
nothing for an older one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from phjob_core.labels import label_value
from phjob_core.messages import GroupSeen

UNKNOWN_GROUP = "unknown"
"""The label `group` of metrics, for all group names that no PhGroup has.

Users invent group names. Without this, each would start series that never end.
"""
_BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)


def volume_folder(group: str) -> str:
    """Return a group's name in folders and claims (spec.md, P7)."""
    return group.lower().replace("_", "-")


def _keys(group: str) -> tuple[str, str]:
    """Return the names that no two groups may share: the label value of the pool, and the claim."""
    return label_value(group), f"project-{volume_folder(group)}"


def _age(seen: GroupSeen) -> tuple[datetime, str]:
    """Return the sort key of PhGroups: the oldest first."""
    return seen.created or _BEGINNING_OF_TIME, seen.name


class Groups:
    """The observed PhGroups, and for each group name the one that counts."""

    def __init__(self) -> None:
        self._objects: dict[str, GroupSeen] = {}
        """By object name."""
        self._sharing: dict[str, set[str]] = {}
        """The names of the objects that share a label value or a claim, by that key."""
        self._oldest: dict[str, GroupSeen] = {}
        """By group name, the oldest PhGroup that shares a key with it. It may have another group name."""

    def upsert(self, seen: GroupSeen) -> set[str]:
        """Store an object. Returns the group names that may have changed."""
        changed = self.delete(seen.name)
        self._objects[seen.name] = seen
        for key in _keys(seen.group):
            self._sharing.setdefault(key, set()).add(seen.name)
        return changed | self._update({seen.group} | self._neighbours(seen.group))

    def delete(self, name: str) -> set[str]:
        """Remove an object, by its own name. Returns the group names that may have changed."""
        seen = self._objects.pop(name, None)
        if seen is None:
            return set()
        for key in _keys(seen.group):
            self._sharing[key].discard(name)
            if not self._sharing[key]:
                del self._sharing[key]
        return self._update({seen.group} | self._neighbours(seen.group))

    def get(self, group: str) -> GroupSeen | None:
        """Return the PhGroup that counts for a group name; None if there is none, or if it is refused."""
        oldest = self._oldest.get(group)
        return oldest if oldest and oldest.group == group else None

    def refusal(self, group: str, name: str = "") -> str:
        """Return why a group name, or the object `name` that has it, is refused; empty if it is not."""
        oldest = self._oldest.get(group)
        if oldest is None or oldest.name == name or (oldest.group == group and not name):
            return ""
        if oldest.group == group:
            return (
                f"the older PhGroup {oldest.name!r} has the same group name; "
                "delete one of the two, or create this one again with another groupName"
            )
        return (
            f"the older PhGroup {oldest.name!r} has the group name {oldest.group!r}, and names that differ "
            'only in case, or in "-" and "_", count as one; create this group again with another groupName'
        )

    def counts(self, seen: GroupSeen) -> bool:
        """Return whether the PhGroup counts for its group name."""
        return self._oldest[seen.group].name == seen.name

    def with_label(self, label: str) -> list[GroupSeen]:
        """Return the PhGroups whose group name has this label value, in order of their object names."""
        return [self._objects[name] for name in sorted(self._sharing.get(label, ()))]

    def counting_with_label(self, label: str) -> GroupSeen | None:
        """Return the PhGroup that counts for a label value; None if there is none."""
        return next(filter(self.counts, self.with_label(label)), None)

    def counting(self) -> list[GroupSeen]:
        """Return the PhGroups that count."""
        return [seen for seen in self._objects.values() if self.counts(seen)]

    def __contains__(self, group: object) -> bool:
        """Return whether a PhGroup has this group name, whether it counts or not."""
        return group in self._oldest

    def __iter__(self) -> Iterator[str]:
        """Iterate over a copy of the group names of all PhGroups, also of those that are refused.

        Another thread may do this, for the metrics.
        """
        return iter(list(self._oldest))

    def _neighbours(self, group: str) -> set[str]:
        """Return the group names of all objects that share a key with this group name."""
        return {self._objects[name].group for name in self._sharing_with(group)}

    def _sharing_with(self, group: str) -> set[str]:
        return {name for key in _keys(group) for name in self._sharing.get(key, ())}

    def _update(self, groups: set[str]) -> set[str]:
        """Find the oldest PhGroup again for these group names. Returns them."""
        for group in groups:
            objects = [self._objects[name] for name in self._sharing_with(group)]
            if any(seen.group == group for seen in objects):
                self._oldest[group] = min(objects, key=_age)
            else:
                self._oldest.pop(group, None)
        return groups
