from datetime import UTC, datetime, timedelta

from phjob_runtime.clock import MAX_CORRECTION_SECONDS, SteadyClock, SystemClock


class Machine:
    """A machine whose time of day a test sets."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.elapsed = 50.0
        self.clock = SystemClock(lambda: self.wall, lambda: self.elapsed)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    def since_start(self) -> timedelta:
        return self.clock.now() - datetime.fromtimestamp(1_000_000, UTC)


def test_the_clock_follows_the_machines_clock() -> None:
    """Also while the machine is suspended, because the time since its start includes that."""
    machine = Machine()
    machine.advance(3600)
    assert machine.since_start() == timedelta(hours=1)


def test_a_time_of_day_that_is_put_forward_makes_nothing_due_early() -> None:
    """A bad NTP answer can do that. After it is corrected, no effect remains (spec.md, L15)."""
    machine = Machine()
    machine.advance(10)
    machine.wall += 3600
    assert machine.since_start() == timedelta(seconds=10)
    machine.advance(5)
    assert machine.since_start() == timedelta(seconds=15)
    machine.wall -= 3600
    assert machine.since_start() == timedelta(seconds=15)


def test_a_time_of_day_that_is_put_back_counts_at_once_and_only_while_it_lasts() -> None:
    """A late deadline is harmless, and an early one is not (spec.md, L15)."""
    machine = Machine()
    machine.advance(100)
    machine.wall -= 60
    assert machine.since_start() == timedelta(seconds=40)
    machine.wall += 60
    assert machine.since_start() == timedelta(seconds=100)


def test_small_corrections_forward_count() -> None:
    """NTP makes them, and any number of them adds up."""
    machine = Machine()
    for _ in range(10):
        machine.advance(60)
        machine.wall += MAX_CORRECTION_SECONDS / 2
        machine.clock.now()
    assert machine.since_start() == timedelta(seconds=600 + 10 * MAX_CORRECTION_SECONDS / 2)


def test_a_steady_clock_ignores_changes_of_the_time_of_day() -> None:
    """A timer of one minute is due after a minute, even if the clock was put back by an hour."""
    machine = Machine()
    steady = SteadyClock(machine.clock)
    began = steady.now()
    machine.wall -= 3600
    machine.advance(60)
    assert steady.now() - began == timedelta(minutes=1)
    machine.wall += 7200
    machine.advance(60)
    assert steady.now() - began == timedelta(minutes=2)
