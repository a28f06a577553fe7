from datetime import UTC, datetime, timedelta

import pytest

from kubectl_phjob import words
from kubectl_phjob.forecast import Estimate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (-3, "0 s", "0s"),
        (0.9, "0 s", "0s"),
        (59, "59 s", "59s"),
        (60, "1 min", "60s"),
        (125, "2 min 5 s", "2m"),
        (3600, "1 h", "60m"),
        (7500, "2 h 5 min", "2h"),
        (90000, "1 d 1 h", "25h"),
        (200000, "2 d 7 h", "2d"),
    ],
)
def test_a_time_is_told_by_its_two_largest_units(seconds: float, long: str, short: str) -> None:
    """Shorter in columns, as kubectl does it."""
    time = timedelta(seconds=seconds)
    assert (words.span(time), words.short_span(time)) == (long, short)


def test_amounts_begin_with_gpus_each_counted_once() -> None:
    """A quota knows them as gpu, whatever their maker calls them."""
    held = {"cpu": 500, "memory": 2**30, "nvidia.com/gpu": 2, "gpu": 2}
    assert words.amounts(held) == "gpu 2, cpu 500m, memory 1Gi"
    assert words.amounts(held, {"nvidia.com/gpu"}) == "nvidia.com/gpu 2"
    assert words.amounts({}) == "nothing"


def test_of_many_names_the_first_are_told_and_how_many_more_there_are() -> None:
    """Nobody reads a hundred."""
    assert words.listed(["a", "b"], 3) == "a, b"
    assert words.listed(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"


@pytest.mark.parametrize(
    ("p50", "p90", "long", "short"),
    [
        (60, 125, "in 1 min (as likely before as after), in 2 min 5 s in nine of ten cases", "60s, 2m"),
        (0, 0, "now", "now"),
        (60, None, "in 1 min (as likely before as after); at worst nobody knows", "60s, ?"),
        (None, 3600, "unknown: why; in 1 h at the latest, by deadlines", "?, 60m"),
        (None, None, "unknown: why", "unknown"),
    ],
)
def test_a_start_is_told_by_two_quantiles_or_why_nobody_knows(
    p50: int | None, p90: int | None, long: str, short: str
) -> None:
    """In a sentence, and in a column."""
    starts = [None if seconds is None else NOW + timedelta(seconds=seconds) for seconds in (p50, p90)]
    estimate = Estimate(starts[0], starts[1], "" if starts[0] else "why")
    assert (words.start(estimate, NOW), words.short_start(estimate, NOW)) == (long, short)
