"""The catalog, and whether it allows a job (spec.md, Q4). Pure.

The result is the resources of the job's pod, or why it cannot run. `engine` decides whether such a job waits
or fails.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import NamedTuple

from phjob_core.api import EVERYONE, RESERVED_NAMES, Reason
from phjob_core.groups import Groups
from phjob_core.messages import GroupSeen, ImageSeen, InstanceTypeSeen, JobSeen
from phjob_core.pod_limits import larger, total
from phjob_core.quantities import Amounts

_NO_USER = "spec.userName is missing, and cannot be added: submit the job again with a user"
_NOTHING: Amounts = MappingProxyType({})


class PodResources(NamedTuple):
    """What an admission gives to a job's pod, and what it reserves for it."""

    limits: Amounts = _NOTHING
    """The limits of the container that runs the job's command."""
    overhead: Amounts = _NOTHING
    """What the cluster adds to the pod (spec.md, Q13)."""
    gpu_resource: str = ""
    """The resource that `limits.gpu` of the instance type means; empty if it has no `limits.gpu`."""

    @property
    def total(self) -> Amounts:
        """Return the limits of the whole pod."""
        return total((self.limits, self.overhead)) if self.overhead else self.limits

    @classmethod
    def admitted(cls, job: JobSeen) -> "PodResources":
        """Return the resources of the job's latest admission."""
        return cls(job.resources, job.overhead, job.gpu_resource)


@dataclass(frozen=True)
class Ineligible:
    """Why a job cannot run, as reason and message."""

    reason: Reason
    message: str
    is_final: bool = False
    """True if nothing can make the job possible, so that it fails however long it has waited."""


class Catalog:
    """The latest groups, instance types and images."""

    def __init__(
        self, reserved_names: Sequence[str] = RESERVED_NAMES, default_limits: Amounts | None = None
    ) -> None:
        """Create an empty catalog.

        `reserved_names` are the patterns of the names that no job may have. `default_limits` are a job's
        limits of the resources that its instance type does not name.
        """
        self._reserved_names = reserved_names
        self.default_limits: Amounts = default_limits or {}
        self.groups = Groups()
        self.instance_types: dict[str, InstanceTypeSeen] = {}
        """By name."""
        self.images: dict[str, ImageSeen] = {}
        """By name."""
        self.overheads: dict[str, Amounts] = {}
        """What the cluster is known to add to a pod, by the name of the instance type."""

    def check(self, job: JobSeen) -> PodResources | Ineligible:
        """Return the resources of the job's pod, or the first reason why the catalog does not allow it."""
        if not job.user:
            return Ineligible(Reason.INVALID_SPEC, _NO_USER, is_final=True)
        problem = next(self._problems(job), None)
        if problem:
            return Ineligible(Reason.INVALID_SPEC, problem)
        instance_type = self.instance_types[job.instance_type]
        limits = {**self.default_limits, **instance_type.limits}
        overhead = self.overheads.get(job.instance_type, {})
        return PodResources(limits, overhead, instance_type.gpu_resource)

    def learn_overhead(self, job: JobSeen) -> bool:
        """Expect what the cluster added to a job's pod for all jobs of its instance type.

        Returns whether that is more than was expected before.
        """
        known = self.overheads.get(job.instance_type, {})
        if all(known.get(name, 0) >= amount for name, amount in job.overhead.items()):
            return False
        self.overheads[job.instance_type] = larger(known, job.overhead)
        return True

    def _problems(self, job: JobSeen) -> Iterator[str]:
        """Yield the problems in the order of spec.md, Q4."""
        pattern = next((one for one in self._reserved_names if fnmatchcase(job.name, one)), None)
        if pattern:
            yield f"the name {job.name!r} is reserved for other workloads ({pattern}): choose another name"
        if job.group == EVERYONE:
            yield f"no job can be submitted to group {EVERYONE!r}, which only grants; choose another group"
            return
        group = self.groups.get(job.group)
        if group is None:
            refusal = self.groups.refusal(job.group)
            yield f"group {job.group!r} {f'is refused: {refusal}' if refusal else 'does not exist'}"
            return
        if group.invalid:
            yield f"group {job.group!r} is unusable: {group.invalid}"
        if job.group_id and group.group_id and job.group_id != group.group_id:
            yield (
                f"groupId {job.group_id!r} is not the id of group {job.group!r}, which is {group.group_id!r}"
            )
        if group.users is not None and job.user not in group.users:
            yield f"user {job.user!r} is not a member of group {job.group!r}"
        granters = self._granters(group)
        granted = any(job.image in granter.images for granter in granters)
        yield from _problems_of("image", job.image, self.images, job.group, granted=granted)
        name, known = job.instance_type, self.instance_types
        granted = any(name in granter.instance_types for granter in granters)
        yield from _problems_of("instance type", name, known, job.group, granted=granted)

    def _granters(self, group: GroupSeen) -> Sequence[GroupSeen]:
        """Return the groups whose grants the jobs of a group have (spec.md, A7)."""
        everyone = self.groups.get(EVERYONE)
        return (group, everyone) if everyone else (group,)


def _problems_of(
    kind: str, name: str, known: Mapping[str, InstanceTypeSeen | ImageSeen], group: str, *, granted: bool
) -> Iterator[str]:
    """Yield the problem of an object that a job names, if there is one."""
    seen = known.get(name)
    if seen is None:
        yield f"{kind} {name!r} does not exist"
    elif not granted:
        yield f"{kind} {name!r} is not granted to group {group!r}"
    elif seen.invalid:
        yield f"{kind} {name!r} is unusable: {seen.invalid}"
