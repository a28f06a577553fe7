"""What a job's pod is given by its groups: which volumes and which datasets, and how.

Pure: from the groups as last seen (contract.md, The pod). What they look like in a pod is `volumes`' part.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.messages import GroupSeen
from shared.phjob import EVERYONE


@dataclass(frozen=True)
class GroupVolume:
    """A group's shared volume, and whether it is linked into the home directory."""

    group: str
    home_symlink: bool

    @property
    def folder(self) -> str:
        """Its name as PrimeHub spells it: lower case, `_` as `-`."""
        return self.group.lower().replace("_", "-")


def group_volumes(group: str, user: str, groups: Iterable[GroupSeen]) -> list[GroupVolume]:
    """The volumes of the launch group, and of the user's other groups that share theirs."""
    volumes: dict[str, GroupVolume] = {}
    for seen in sorted(groups, key=lambda seen: (seen.group != group, seen.group)):
        member = seen.users is None or user in seen.users
        if seen.shared_volume and (seen.group == group or (member and not seen.launch_group_only)):
            volume = GroupVolume(seen.group, seen.home_symlink)
            volumes.setdefault(volume.folder, volume)
    return list(volumes.values())


def datasets(group: str, groups: Iterable[GroupSeen]) -> dict[str, bool]:
    """The datasets of the launch group and of everyone, and whether each is writable: if either says so."""
    granted: dict[str, bool] = {}
    for seen in groups:
        if seen.group in (group, EVERYONE):
            for grant in seen.datasets:
                granted[grant.name] = granted.get(grant.name, False) or grant.writable
    return dict(sorted(granted.items()))
