"""A group fixture: a group with its quotas and grants, and jobs and notebooks for it."""

from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.cluster import Cluster, Object

FOREVER = "1h"
"""The run time of a pod on a KWOK node that outlives every test."""


@dataclass
class GroupFixture:
    """A group of one test, with an image and instance types that only this group uses."""

    cluster: Cluster
    prefix: str = "phusers"
    """The beginning of the group's name. The rest is unique to the test."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Fields of the PhGroup's spec."""

    def __post_init__(self) -> None:
        self.name = self.cluster.unique_name(self.prefix)
        self.image = self.cluster.unique_name(f"{self.prefix}-notebook")
        self._types: dict[int, str] = {}

    def create(self) -> Self:
        """Create the group, its image, and instance types with 0, 1, 2 and 4 GPUs.

        Returns self.
        """
        self.cluster.create(an_image(self.image))
        for gpus in (0, 1, 2, 4):
            self._types[gpus] = self.cluster.unique_name(f"{self.prefix}-gpu-{gpus}")
            self.cluster.create(an_instance_type(self._types[gpus], gpus=gpus))
        granted = {"images": [self.image], "instanceTypes": list(self._types.values())}
        self.cluster.create(a_group(self.name, **{**granted, **self.spec}))
        return self

    def job_manifest(self, name: str, *, gpus: int = 0, **fields: Any) -> Object:
        """Return the manifest of a job of the group that requests this many GPUs."""
        defaults = {"group": self.name, "image": self.image, "instanceType": self._types[gpus]}
        return a_job(self.cluster.unique_name(name), **{**defaults, **fields})

    def submit(self, name: str, *, gpus: int = 0, **fields: Any) -> str:
        """Create a job of the group. Returns its name."""
        (created,) = self.cluster.create(self.job_manifest(name, gpus=gpus, **fields))
        return created

    def start_notebook(self, name: str, *, gpus: int, user: str = "bob") -> str:
        """Create the pod of a Jupyter server of the group. Returns its name."""
        limits = {"nvidia.com/gpu": str(gpus)}
        pod = a_notebook(self.cluster.unique_name(name), group=self.name, user=user, **limits)
        (created,) = self.cluster.create(pod)
        return created

    def patch_spec(self, **spec: Any) -> None:
        """Change these fields of the group's spec."""
        self.cluster.patch_spec("PhGroup", self.name, **spec)

    def grant(self, *, images: tuple[str, ...] = (), instance_types: tuple[str, ...] = ()) -> None:
        """Grant more images and instance types to the group."""
        now = self.cluster.api.get("PhGroup", self.name)
        assert now
        granted = {"images": [*now["spec"]["images"], *images]}
        self.patch_spec(**granted, instanceTypes=[*now["spec"]["instanceTypes"], *instance_types])


def wait_until_quiescent(cluster: Cluster) -> None:
    """Wait until the services have processed everything up to now.

    Tests of what must not happen need this. The services process facts in order. So they have processed
    everything earlier once a job of another group, created now, has run.
    """
    prefix = f"canary-{cluster.next_number()}"
    cluster.wait_for_phase(GroupFixture(cluster, prefix).create().submit(prefix), "Succeeded")
