from datetime import timedelta, timezone

from tests.fakes.facts import START

from phjob_pod_manager.timestamps import rfc3339


def test_a_time_is_written_in_utc_and_whole_seconds() -> None:
    """As the API server writes its own times (spec.md, A4)."""
    local = START.astimezone(timezone(timedelta(hours=8))) + timedelta(seconds=1.9)
    assert rfc3339(local) == "2026-01-01T00:00:01Z"
