"""The janitor's own metrics, called by the name of what happened."""

from prometheus_client import Counter

_ORDERS = Counter("phjob_janitor_orders", "Orders given to pod-manager, by kind", ["kind"])


def ordered(kind: str) -> None:
    """An order was given."""
    _ORDERS.labels(kind).inc()
