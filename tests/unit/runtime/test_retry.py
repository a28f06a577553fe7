from phjob_core.backoff import Backoff
from phjob_runtime.retry import retry_delay

BACKOFF = Backoff(first=1.0, longest=8.0, jitter=0.2)


def test_delays_are_spread_around_the_backoffs_delay() -> None:
    """Without jitter, all replicas would come back to a server at the same moment."""
    delays = {retry_delay(BACKOFF, 2) for _ in range(100)}
    assert len(delays) > 50
    assert min(delays) >= 1.6
    assert max(delays) <= 2.4


def test_without_jitter_the_delay_is_exact() -> None:
    """The random number has no effect then."""
    assert retry_delay(Backoff(first=1.0, longest=8.0), 3) == 4
