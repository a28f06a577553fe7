"""The checks of the demo and their results."""

from dev.demo.screen import Screen


class Report:
    """All checks so far. Each is shown when it is made, and again in the summary."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._checks: list[tuple[str, bool]] = []

    @property
    def ok(self) -> bool:
        """True if there were checks and all of them passed."""
        return bool(self._checks) and all(ok for _, ok in self._checks)

    def check(self, claim: str, expected: object, actual: object) -> None:
        """Check that the two are equal. `claim` is a statement that is true in that case."""
        is_equal = expected == actual
        self.add(claim if is_equal else f"{claim}: expected {expected}, but it is {actual}", ok=is_equal)

    def add(self, claim: str, *, ok: bool) -> None:
        """Add a check with its result, and show it."""
        self._checks.append((claim, ok))
        self._screen.check_result(claim, ok=ok)

    def summary(self) -> None:
        """Show all checks again."""
        self._screen.heading("Summary")
        for claim, ok in self._checks:
            self._screen.check_result(claim, ok=ok)
