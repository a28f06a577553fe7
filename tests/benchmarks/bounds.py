"""What figures have to be, `bounds.yaml`, and whether they are. Pure but for reading that file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

BOUNDS = Path(__file__).with_name("bounds.yaml")


class Bound(BaseModel):
    """One bound, on one figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    """Its name; or `*.what`: of whatever scenario has it."""
    at_least: float | None = None
    at_most: float | None = None
    run: str
    """The run, in docs/performance.md, that shows that it can be held."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Bound":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.figure}: either at_least or at_most")
        return self

    def applies_to(self, figure: str) -> bool:
        """Whether it is that figure's."""
        return self.figure == figure or (
            self.figure.startswith("*.") and figure.endswith(self.figure.removeprefix("*"))
        )

    def keeps(self, value: float) -> bool:
        """Whether the value is within it."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    def words(self) -> str:
        """For a person."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


@dataclass(frozen=True)
class Verdict:
    """A bound, held against a figure."""

    figure: str
    value: float
    bound: Bound

    @property
    def passed(self) -> bool:
        """Whether it is kept."""
        return self.bound.keeps(self.value)


def bounds() -> list[Bound]:
    """All of them."""
    return [Bound.model_validate(entry) for entry in yaml.safe_load(BOUNDS.read_text())]


def verdicts(figures: Mapping[str, float], bounds: Iterable[Bound]) -> list[Verdict]:
    """Each bound on each figure that was measured."""
    return [
        Verdict(name, value, bound)
        for bound in bounds
        for name, value in figures.items()
        if bound.applies_to(name)
    ]
