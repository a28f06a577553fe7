"""The load of each scenario by scale, as `loads.yaml` defines it."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field

LOADS = Path(__file__).with_name("loads.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RawLoad(_Section):
    """Requests straight to the API server."""

    objects: int
    """The number of requests of each kind at full speed."""
    connections: int
    """The number of connections over which they are sent."""
    one_by_one: int
    """The number of requests of each kind over a single connection."""


class BatchLoad(_Section):
    """Jobs that are submitted as fast as the API server accepts them."""

    groups: int
    jobs: int
    """The number of jobs of each group."""


class SteadyLoad(_Section):
    """Jobs that are submitted at a steady rate."""

    rate: float
    """Jobs per second."""
    seconds: float


class ContendedLoad(_Section):
    """One group whose jobs wait for quota."""

    pending: list[int]
    """The numbers of jobs that wait before the first admission. Each number is a part of the scenario."""
    room: int
    """The number of jobs that fit into the group's quota."""
    admissions: int
    """The number of measured admissions for each number of waiting jobs, in rounds if fewer jobs wait."""


class HistoryLoad(_Section):
    """Records of jobs that ended long ago."""

    records: int
    idle_seconds: float
    rounds: int
    """The number of times that `latency` and `lives` are measured with and without records."""
    latency: SteadyLoad
    lives: BatchLoad


class MemoryLoad(_Section):
    """Jobs that exist when the services start."""

    jobs: int


class CoreLoad(_Section):
    """The scheduler's core in a single process."""

    pending: list[int]
    users: list[int]
    events: int


class ScaleOutLoad(BatchLoad):
    """The same batch with more processes."""

    shards: list[int]
    replicas: list[int]


class Load(_Section):
    """The loads of one scale."""

    raw: RawLoad
    burst: BatchLoad
    lives: BatchLoad
    latency: SteadyLoad
    contended: ContendedLoad
    history: HistoryLoad
    core: CoreLoad
    scale_out: ScaleOutLoad = Field(alias="scale-out")
    pending_jobs: MemoryLoad = Field(alias="pending-jobs")
    running_jobs: MemoryLoad = Field(alias="running-jobs")
    standing_pods: MemoryLoad = Field(alias="standing-pods")
    hostile_sizes: MemoryLoad = Field(alias="hostile-sizes")

    @classmethod
    def of(cls, scale: str) -> Self:
        """Return the loads of a scale. Raises KeyError if there is no such scale."""
        return cls.model_validate(yaml.safe_load(LOADS.read_text())[scale])
