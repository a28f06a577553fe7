"""What a run submits: `loads.yaml`, by scale. What is measured then is the scenarios'."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field

LOADS = Path(__file__).with_name("loads.yaml")


class _Load(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Raw(_Load):
    """Requests straight to the API server."""

    objects: int
    """Of each kind of request, at full speed."""
    connections: int
    one_by_one: int
    """Of each kind of request, over one connection."""


class Batch(_Load):
    """Jobs that are submitted as fast as the API server takes them."""

    groups: int
    jobs: int
    """Of each group."""


class Steady(_Load):
    """Jobs that come evenly."""

    rate: float
    """Jobs a second."""
    seconds: float


class Contended(_Load):
    """One group whose jobs wait for room."""

    pending: list[int]
    """How many wait when the first goes; a part of the scenario for each."""
    room: int
    """How many jobs the group's quota has room for."""
    admissions: int
    """How many are measured for each; where fewer wait, in rounds."""


class History(_Load):
    """Records of jobs that ended long ago."""

    records: int
    idle_seconds: float
    rounds: int
    """In which the two that follow are measured with and without them."""
    latency: Steady
    lives: Batch


class Core(_Load):
    """The scheduler's queue without anything around it."""

    pending: list[int]
    users: list[int]
    events: int


class ScaleOut(Batch):
    """The same batch with more processes."""

    shards: list[int]
    replicas: list[int]


class Load(_Load):
    """One scale."""

    raw: Raw
    burst: Batch
    lives: Batch
    latency: Steady
    contended: Contended
    history: History
    core: Core
    scale_out: ScaleOut = Field(alias="scale-out")

    @classmethod
    def of(cls, scale: str) -> Self:
        """The scale of this name; KeyError if there is none."""
        return cls.model_validate(yaml.safe_load(LOADS.read_text())[scale])
