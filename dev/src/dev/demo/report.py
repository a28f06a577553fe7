"""What was checked, and how it turned out."""

from dev.demo.screen import Screen


class Report:
    """The checks so far."""

    def __init__(self, screen: Screen) -> None:
        """Empty; each check is shown when it is made, and again in the summary."""
        self._screen = screen
        self._checks: list[tuple[str, bool]] = []

    @property
    def ok(self) -> bool:
        """Whether there were checks and none failed."""
        return bool(self._checks) and all(ok for _, ok in self._checks)

    def check(self, what: str, expected: object, real: object) -> None:
        """That something is as expected; `what` is a statement that is then true."""
        self.add(what if expected == real else f"{what}: expected {expected}, is {real}", ok=expected == real)

    def add(self, what: str, *, ok: bool) -> None:
        """Something that was found to be so, or not."""
        self._checks.append((what, ok))
        self._screen.verdict(what, ok=ok)

    def summary(self) -> None:
        """Show all of them together."""
        self._screen.heading("Summary")
        for what, ok in self._checks:
            self._screen.verdict(what, ok=ok)
