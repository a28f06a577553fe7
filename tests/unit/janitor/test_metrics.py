from prometheus_client import REGISTRY

from phjob_janitor import metrics


def test_commands_are_counted_by_kind() -> None:
    """A repeated command counts again, which shows that the first had no effect."""
    before = REGISTRY.get_sample_value("phjob_janitor_commands_total", {"kind": "Reclaim"}) or 0
    metrics.command_sent("Reclaim")
    metrics.command_sent("Reclaim")
    assert REGISTRY.get_sample_value("phjob_janitor_commands_total", {"kind": "Reclaim"}) == before + 2
