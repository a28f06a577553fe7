"""The bounds of the figures (`bounds.yaml`), and whether a run keeps them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

BOUNDS = Path(__file__).with_name("bounds.yaml")


class Bound(BaseModel):
    """A lower or an upper bound of one figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    """The name of the figure, or `*.name` for the figures of this name in all scenarios."""
    at_least: float | None = None
    at_most: float | None = None
    run: str
    """The run in docs/performance.md which shows that the bound can be kept."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Bound":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.figure}: either at_least or at_most")
        return self

    def is_on(self, figure: str) -> bool:
        """Return whether the bound is on this figure."""
        return self.figure == figure or (
            self.figure.startswith("*.") and figure.endswith(self.figure.removeprefix("*"))
        )

    def is_kept_by(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    def describe(self) -> str:
        """Return the bound in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


@dataclass(frozen=True)
class Verdict:
    """A measured figure, compared with its bound."""

    figure: str
    value: float
    bound: Bound

    @property
    def passed(self) -> bool:
        """True if the bound is kept."""
        return self.bound.is_kept_by(self.value)


def read_bounds() -> list[Bound]:
    """Return all bounds."""
    return [Bound.model_validate(entry) for entry in yaml.safe_load(BOUNDS.read_text())]


def verdicts(figures: Mapping[str, float], bounds: Iterable[Bound]) -> list[Verdict]:
    """Return a verdict for each bound on each measured figure.

    `figures`: the values, by the names of the figures.
    """
    return [
        Verdict(name, value, bound)
        for bound in bounds
        for name, value in figures.items()
        if bound.is_on(name)
    ]
