"""PhGroups by the name that jobs give: one object for each name. Pure."""

from collections.abc import Iterator

from phjob_core.messages import GroupSeen


class Groups:
    """The observed PhGroups. Of several with one group name, the first by object name counts."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, GroupSeen]] = {}
        """By group name and object name."""
        self._names: dict[str, str] = {}
        """The group name of each object, by object name."""

    def upsert(self, seen: GroupSeen) -> set[str]:
        """Store an object. Returns the group names whose object changed."""
        changed = self.delete(seen.name)
        self._names[seen.name] = seen.group
        self._objects.setdefault(seen.group, {})[seen.name] = seen
        return changed | {seen.group}

    def delete(self, name: str) -> set[str]:
        """Remove an object, by its own name. Returns the group names whose object changed."""
        group = self._names.pop(name, None)
        if group is None:
            return set()
        del self._objects[group][name]
        if not self._objects[group]:
            del self._objects[group]
        return {group}

    def get(self, group: str) -> GroupSeen | None:
        """Return the object that counts for a group name; None if there is none."""
        objects = self._objects.get(group)
        return objects[min(objects)] if objects else None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the group names."""
        return iter(self._objects)
