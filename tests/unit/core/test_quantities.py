from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phjob_core.quantities import (
    QuantityError,
    base_units,
    parse,
    parse_primehub,
    render,
    render_all,
)


@pytest.mark.parametrize(
    ("resource", "quantity", "amount"),
    [
        ("cpu", "2", 2000),
        ("cpu", 0.5, 500),
        ("cpu", "500m", 500),
        ("cpu", "100u", 1),
        ("memory", "4Gi", 4 * 1024**3),
        ("memory", "4G", 4 * 10**9),
        ("memory", "1e3", 1000),
        ("memory", "1E", 10**18),
        ("memory", "1Ei", 1024**6),
        ("memory", "128974848", 128974848),
        ("memory", "1500m", 2),
        ("nvidia.com/gpu", 4, 4),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(resource: str, quantity: object, amount: int) -> None:
    """It is rounded up, as kube-scheduler does."""
    assert parse(resource, quantity) == amount


def test_memory_of_4g_means_4gi_in_instance_types_and_quotas() -> None:
    """PrimeHub's administrators write it so (spec.md, S2)."""
    assert parse_primehub("memory", "4G") == parse("memory", "4Gi")
    assert parse_primehub("memory", "512M") == parse("memory", "512Mi")
    assert parse_primehub("memory", "4Gi") == parse("memory", "4Gi")
    assert parse_primehub("memory", 1024) == 1024
    assert parse_primehub("cpu", "2k") == 2_000_000


@pytest.mark.parametrize("quantity", ["lots", "", "4 GB", "1KiB", "--1", "-1", "0x10", True, None, "1e", "٤"])
def test_the_error_names_a_text_that_is_not_a_quantity(quantity: object) -> None:
    """An administrator must find it in the object."""
    with pytest.raises(QuantityError, match=r"not a quantity|negative"):
        parse("memory", quantity)


@pytest.mark.parametrize("quantity", ["1e999999999", "1E20", "10Ei", "9" * 30, "1e" + "9" * 50, 1e300])
def test_a_quantity_above_the_limit_of_kubernetes_is_rejected_quickly(quantity: object) -> None:
    """As a whole number, the first would exhaust the memory."""
    with pytest.raises(QuantityError, match="too large"):
        parse("cpu", quantity)


def test_a_very_long_text_is_not_a_quantity() -> None:
    """The message about it is short, because it ends in a status."""
    with pytest.raises(QuantityError, match="not a quantity") as raised:
        parse("memory", "9" * 100_000)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("quantity", ["1e-999999999", "0.000000001", "1n"])
def test_the_smallest_amount_is_one_unit(quantity: str) -> None:
    """Anything above 0 counts."""
    assert parse("memory", quantity) == 1


@given(st.integers(0, 10**15), st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]))
def test_an_amount_survives_rendering_and_parsing(amount: int, resource: str) -> None:
    """The pod gets exactly what its admission reserved."""
    assert parse(resource, render(resource, amount)) == amount


def test_an_amount_is_rendered_in_the_largest_unit_that_divides_it() -> None:
    """People read it in messages, and expect the units that they wrote."""
    amounts = {"cpu": 1500, "memory": 4 * 1024**3, "nvidia.com/gpu": 2}
    assert render_all(amounts) == {"cpu": "1500m", "memory": "4Gi", "nvidia.com/gpu": "2"}
    assert [render("cpu", 2000), render("memory", 1000), render("memory", 0)] == ["2", "1000", "0"]
    assert render("ephemeral-storage", 10 * 2**30) == "10Gi"


def test_metrics_have_cores_bytes_and_devices() -> None:
    """The base units of Prometheus."""
    assert [base_units("cpu", 1500), base_units("memory", 1024), base_units("gpu", 2)] == [1.5, 1024, 2]


@given(st.decimals(0, 10**6, places=3), st.sampled_from(["", "m", "k", "Ki", "Gi"]))
def test_no_quantity_counts_as_less_than_it_is(number: Decimal, suffix: str) -> None:
    """Rounding must not let a group exceed its quota."""
    scale = Decimal({"": "1", "m": "0.001", "k": "1000", "Ki": "1024", "Gi": str(1024**3)}[suffix])
    amount = parse("memory", f"{number}{suffix}")
    assert 0 <= amount - number * scale < 1
