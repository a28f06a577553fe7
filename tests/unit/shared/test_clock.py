from datetime import UTC, datetime, timedelta

from shared.clock import TOLERANCE, SystemClock


class Machine:
    """A machine whose time of day a test may turn."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.elapsed = 50.0
        self.clock = SystemClock(lambda: self.wall, lambda: self.elapsed)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    def since_start(self) -> timedelta:
        return self.clock.now() - datetime.fromtimestamp(1_000_000, UTC)


def test_time_passes_as_it_does() -> None:
    """Also while the machine is suspended: what counts is the time since its boot."""
    machine = Machine()
    machine.pass_by(3600)
    assert machine.since_start() == timedelta(hours=1)


def test_a_time_of_day_that_is_put_forward_makes_nothing_due_early() -> None:
    """By a bad NTP answer, say; when it is put right again, nothing is left of it."""
    machine = Machine()
    machine.pass_by(10)
    machine.wall += 3600
    assert machine.since_start() == timedelta(seconds=10)
    machine.pass_by(5)
    assert machine.since_start() == timedelta(seconds=15)
    machine.wall -= 3600
    assert machine.since_start() == timedelta(seconds=15)


def test_a_time_of_day_that_is_put_back_counts_at_once_and_only_while_it_lasts() -> None:
    """Late is harmless, early is not."""
    machine = Machine()
    machine.pass_by(100)
    machine.wall -= 60
    assert machine.since_start() == timedelta(seconds=40)
    machine.wall += 60
    assert machine.since_start() == timedelta(seconds=100)


def test_small_corrections_are_followed() -> None:
    """NTP's own, however many."""
    machine = Machine()
    for _ in range(10):
        machine.pass_by(60)
        machine.wall += TOLERANCE / 2
        machine.clock.now()
    assert machine.since_start() == timedelta(seconds=600 + 10 * TOLERANCE / 2)
