"""What jobs may use: groups, instance types and images, and whether a job's spec agrees with them.

Pure. It says what a job asks for or why it can never run; when that is certain is `admission`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.messages import GroupSeen, ImageSeen, InstanceTypeSeen, JobSeen
from shared.phjob import EVERYONE, Reason
from shared.resources import Amounts


@dataclass(frozen=True)
class Refusal:
    """Why a job can never run, as reason and message."""

    reason: Reason
    message: str


class Catalog:
    """The groups, instance types and images as last seen."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupSeen] = {}
        self.instance_types: dict[str, InstanceTypeSeen] = {}
        self.images: dict[str, ImageSeen] = {}
        self._objects: dict[str, dict[str, GroupSeen]] = {}

    def put_group(self, seen: GroupSeen) -> None:
        """Remember a PhGroup. Of two with one group name, the object first by name counts."""
        self._objects.setdefault(seen.group, {})[seen.name] = seen
        self._choose(seen.group)

    def drop_group(self, group: str, name: str) -> None:
        """Forget a PhGroup."""
        self._objects.get(group, {}).pop(name, None)
        self._choose(group)

    def _choose(self, group: str) -> None:
        objects = self._objects.get(group)
        if objects:
            self.groups[group] = objects[min(objects)]
        else:
            self.groups.pop(group, None)
            self._objects.pop(group, None)

    def check(self, job: JobSeen) -> Amounts | Refusal:
        """The limits that the job's pod will have, or why it can never run (Queueing 4)."""
        problem = next(self._problems(job), None)
        if problem:
            return Refusal(Reason.INVALID_SPEC, problem)
        return self.instance_types[job.instance_type].limits

    def _problems(self, job: JobSeen) -> Iterator[str]:
        group = self.groups.get(job.group)
        if group is None:
            yield f"group {job.group!r} does not exist"
            return
        if group.invalid:
            yield f"group {job.group!r} is unusable: {group.invalid}"
        if job.group_id and group.group_id and job.group_id != group.group_id:
            yield (
                f"groupId {job.group_id!r} is not the id of group {job.group!r}, which is {group.group_id!r}"
            )
        if group.users is not None and job.user not in group.users:
            yield f"user {job.user!r} is not a member of group {job.group!r}"
        everyone = self.groups.get(EVERYONE)
        yield from self._granted(
            "image", job.image, self.images, group.images, everyone.images if everyone else (), job
        )
        yield from self._granted(
            "instance type",
            job.instance_type,
            self.instance_types,
            group.instance_types,
            everyone.instance_types if everyone else (),
            job,
        )

    def _granted(
        self,
        what: str,
        name: str,
        known: dict[str, InstanceTypeSeen] | dict[str, ImageSeen],
        granted: tuple[str, ...],
        to_everyone: tuple[str, ...],
        job: JobSeen,
    ) -> Iterator[str]:
        seen = known.get(name)
        if seen is None:
            yield f"{what} {name!r} does not exist"
        elif name not in granted and name not in to_everyone:
            yield f"{what} {name!r} is not granted to group {job.group!r}"
        elif seen.invalid:
            yield f"{what} {name!r} is unusable: {seen.invalid}"
