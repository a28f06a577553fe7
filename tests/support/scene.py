"""A group that may use something, and jobs for it: the stage of most end-to-end tests."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.hub import Hub, Object

FOREVER = "1h"
"""For KWOK's pods: longer than any test."""


@dataclass
class Scene:
    """A group of one test, with an image and instance types of its own."""

    hub: Hub
    name: str = "phusers"
    spec: dict[str, Any] = field(default_factory=dict)
    """The PhGroup's, in the CRD's own words."""

    def __post_init__(self) -> None:
        self.group = self.hub.name(self.name)
        self.image = self.hub.name(f"{self.name}-notebook")
        self._types: dict[int, str] = {}

    def make(self) -> "Scene":
        """Create the image and the group, which grants it and the types of 0, 1, 2 and 4 GPUs."""
        self.hub.create(an_image(self.image))
        for gpus in (0, 1, 2, 4):
            self._types[gpus] = self.hub.name(f"{self.name}-gpu-{gpus}")
            self.hub.create(an_instance_type(self._types[gpus], gpus=gpus))
        granted = {"images": [self.image], "instanceTypes": list(self._types.values())}
        self.hub.create(a_group(self.group, **{**granted, **self.spec}))
        return self

    def job(self, name: str, *, gpus: int = 0, **fields: Any) -> Object:
        """A job of the group that asks for so many GPUs."""
        defaults = {"group": self.group, "image": self.image, "instanceType": self._types[gpus]}
        return a_job(self.hub.name(name), **{**defaults, **fields})

    def submit(self, name: str, *, gpus: int = 0, **fields: Any) -> str:
        """Create such a job; its name."""
        (created,) = self.hub.create(self.job(name, gpus=gpus, **fields))
        return created

    def notebook(self, name: str, *, gpus: int, user: str = "bob") -> str:
        """Start a Jupyter server of the group; its pod's name."""
        limits = {"nvidia.com/gpu": str(gpus)}
        pod = a_notebook(self.hub.name(name), group=self.group, user=user, **limits)
        (created,) = self.hub.create(pod)
        return created

    def change(self, **spec: Any) -> None:
        """Edit the group."""
        self.hub.change("PhGroup", self.group, **spec)

    def grants(self, *, images: tuple[str, ...] = (), instance_types: tuple[str, ...] = ()) -> None:
        """Grant these too."""
        now = self.hub.api.get("PhGroup", self.group)
        assert now
        granted = {"images": [*now["spec"]["images"], *images]}
        self.change(**granted, instanceTypes=[*now["spec"]["instanceTypes"], *instance_types])


def settled(hub: Hub) -> None:
    """Return when whatever could have happened by now has: for tests of what must not happen.

    A job of another group, created now, has run: the services handle what happens in its order.
    """
    name = f"canary-{hub.next_number()}"
    hub.reaches(Scene(hub, name).make().submit(name), "Succeeded")
