import pytest

from phjob_core.backoff import Backoff

BACKOFF = Backoff(first=0.5, longest=3)


def test_the_delay_doubles_from_the_first_to_the_longest() -> None:
    """The maximum ends the doubling, also where it is no power of two times the first delay."""
    assert [BACKOFF.delay(failures) for failures in range(1, 6)] == [0.5, 1, 2, 3, 3]


def test_there_is_no_delay_without_a_failure() -> None:
    """A caller may ask before anything has failed."""
    assert BACKOFF.delay(0) == 0


def test_the_delay_stays_at_its_maximum_after_any_number_of_failures() -> None:
    """A server may be unreachable for weeks; a power of two would not fit into a float then."""
    assert BACKOFF.delay(10**9) == 3


@pytest.mark.parametrize(("random", "expected"), [(0.0, 0.8), (0.5, 1.0), (1 - 2**-53, 1.2)])
def test_jitter_makes_the_delay_shorter_or_longer_by_its_fraction(random: float, expected: float) -> None:
    """The random number 0.5 is the middle, so it gives the delay without jitter."""
    assert Backoff(first=1, longest=1, jitter=0.2).delay(1, random) == pytest.approx(expected)


@pytest.mark.parametrize("random", [0.0, 0.3, 1 - 2**-53])
def test_without_jitter_the_random_number_has_no_effect(random: float) -> None:
    """The delays of a requeue are part of the specification (spec.md, Q5)."""
    assert BACKOFF.delay(2, random) == 1
