from datetime import UTC, datetime, timedelta

import pytest

from phjob_cli import formatting
from phjob_cli.forecast import Estimate
from phjob_core.gpus import GpuResources

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
def test_a_duration_has_its_two_largest_units(seconds: float, long: str, short: str) -> None:
    """A column has the shorter form of kubectl."""
    time = timedelta(seconds=seconds)
    assert (formatting.duration(time), formatting.short_duration(time)) == (long, short)


def test_amounts_begin_with_gpus_and_count_each_once() -> None:
    """A quota counts GPUs as gpu, whatever their resource is called."""
    held = {"cpu": 500, "memory": 2**30, "nvidia.com/gpu": 2, "gpu": 2}
    gpus = GpuResources(["example.com/*"])
    assert formatting.amounts(held, (), gpus) == "gpu 2, cpu 500m, memory 1Gi"
    assert formatting.amounts(held, {"nvidia.com/gpu"}, gpus) == "nvidia.com/gpu 2"
    assert formatting.amounts({"example.com/accelerator": 2, "gpu": 2}, (), gpus) == "gpu 2"
    assert formatting.amounts({}, (), gpus) == "nothing"


def test_a_quota_of_one_kind_of_gpu_is_shown_if_there_is_none_of_all() -> None:
    """It is the only one that counts."""
    shown = formatting.without_gpu_names({"nvidia.com/mig-1g.5gb": "2", "cpu": "4"}, GpuResources())
    assert shown == ["nvidia.com/mig-1g.5gb", "cpu"]


def test_many_names_are_shortened_to_the_first_and_a_count() -> None:
    """A line with a hundred names would be unreadable."""
    assert formatting.names(["a", "b"], 3) == "a, b"
    assert formatting.names(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"


@pytest.mark.parametrize(
    ("p50", "p90", "long", "short"),
    [
        (60, 125, "in about 1 min (median), within 2 min 5 s (90 %)", "60s, 2m"),
        (0, 0, "now", "now"),
        (0, 60, "now (median), within 1 min (90 %)", "0s, 60s"),
        (60, None, "in about 1 min (median); no limit can be estimated", "60s, ?"),
        (None, 3600, "unknown: why; in 1 h at the latest, because of deadlines", "?, 60m"),
        (None, None, "unknown: why", "unknown"),
    ],
)
def test_a_start_has_two_quantiles_or_the_reason_why_it_is_unknown(
    p50: int | None, p90: int | None, long: str, short: str
) -> None:
    """There is a sentence, and a form for columns."""
    starts = [None if seconds is None else NOW + timedelta(seconds=seconds) for seconds in (p50, p90)]
    estimate = Estimate(starts[0], starts[1], "" if starts[0] else "why")
    assert (formatting.start(estimate, NOW), formatting.short_start(estimate, NOW)) == (long, short)
