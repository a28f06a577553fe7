"""The grants of a job's groups: the volumes and datasets that its pod gets. Pure.

The result depends on the groups as last observed (spec.md, P7, P8). `volumes` turns it into a pod's volumes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from phjob_core.api import EVERYONE
from phjob_core.groups import volume_folder
from phjob_core.messages import GroupSeen


@dataclass(frozen=True)
class GroupVolume:
    """The shared volume of a group."""

    group: str
    home_symlink: bool
    """True if it is linked into the home directory."""

    @property
    def folder(self) -> str:
        """Return the folder's name, which no other group has."""
        return volume_folder(self.group)


def group_volumes(group: str, user: str, groups: Iterable[GroupSeen]) -> list[GroupVolume]:
    """Return the volumes of the job's group and of the user's groups that share.

    `groups` are those that count, so no two of them have the same folder.
    """
    volumes = []
    for seen in sorted(groups, key=lambda seen: (seen.group != group, seen.group)):
        is_member = seen.users is None or user in seen.users
        if seen.shared_volume and (seen.group == group or (is_member and not seen.launch_group_only)):
            volumes.append(GroupVolume(seen.group, seen.home_symlink))
    return volumes


def datasets(group: str, groups: Iterable[GroupSeen]) -> dict[str, bool]:
    """Return the names of the job's datasets, and whether each is writable.

    They come from the job's group and from `everyone`. A dataset is writable if either grant is.
    """
    granted: dict[str, bool] = {}
    for seen in groups:
        if seen.group in (group, EVERYONE):
            for grant in seen.datasets:
                granted[grant.name] = granted.get(grant.name, False) or grant.writable
    return dict(sorted(granted.items()))
