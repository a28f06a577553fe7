from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resources import QuantityError, charge, parse, parse_primehub, pod_limits, render


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
    """Rounded up, as the scheduler of Kubernetes does."""
    assert parse(resource, quantity) == amount


def test_memory_of_4g_is_4gi_where_a_primehub_administrator_writes_it() -> None:
    """contract.md, InstanceType."""
    assert parse_primehub("memory", "4G") == parse("memory", "4Gi")
    assert parse_primehub("memory", "512M") == parse("memory", "512Mi")
    assert parse_primehub("memory", "4Gi") == parse("memory", "4Gi")
    assert parse_primehub("memory", 1024) == 1024
    assert parse_primehub("cpu", "2k") == 2_000_000


@pytest.mark.parametrize("quantity", ["lots", "", "4 GB", "1KiB", "--1", "-1", "0x10", True, None, "1e", "٤"])
def test_what_is_no_quantity_is_named(quantity: object) -> None:
    """An administrator must find it."""
    with pytest.raises(QuantityError, match=r"not a quantity|negative"):
        parse("memory", quantity)


@pytest.mark.parametrize("quantity", ["1e999999999", "1E20", "10Ei", "9" * 30, "1e" + "9" * 50, 1e300])
def test_what_kubernetes_could_not_count_is_refused_at_once(quantity: object) -> None:
    """As a whole number, the first would fill this machine's memory."""
    with pytest.raises(QuantityError, match="too large"):
        parse("cpu", quantity)


def test_a_quantity_that_never_ends_is_none() -> None:
    """And the message about it is short."""
    with pytest.raises(QuantityError, match="not a quantity") as refused:
        parse("memory", "9" * 100_000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("quantity", ["1e-999999999", "0.000000001", "1n"])
def test_the_smallest_amount_is_one_unit(quantity: str) -> None:
    """However small."""
    assert parse("memory", quantity) == 1


@given(st.integers(0, 10**15), st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]))
def test_an_amount_survives_being_written_and_read(amount: int, resource: str) -> None:
    """What is admitted is what the pod gets."""
    assert parse(resource, render(resource, amount)) == amount


@given(st.decimals(0, 10**6, places=3), st.sampled_from(["", "m", "k", "Ki", "Gi"]))
def test_no_quantity_is_ever_counted_as_less_than_it_is(number: Decimal, suffix: str) -> None:
    """Rounding never gives anything away."""
    scale = Decimal({"": "1", "m": "0.001", "k": "1000", "Ki": "1024", "Gi": str(1024**3)}[suffix])
    amount = parse("memory", f"{number}{suffix}")
    assert 0 <= amount - number * scale < 1


def test_every_kind_of_gpu_counts_as_gpu() -> None:
    """The quota key `gpu` (contract.md, PhGroup)."""
    assert charge({"cpu": 1, "nvidia.com/gpu": 1, "amd.com/gpu": 2, "nvidia.com/mig-1g.5gb": 1}) == {
        "cpu": 1,
        "nvidia.com/gpu": 1,
        "amd.com/gpu": 2,
        "nvidia.com/mig-1g.5gb": 1,
        "gpu": 4,
    }


def a_container(cpu: str, **fields: object) -> dict[str, object]:
    return {"resources": {"limits": {"cpu": cpu}}, **fields}


def test_a_pods_limits_are_those_of_its_containers_together() -> None:
    """A Jupyter pod with a helper beside it."""
    assert pod_limits({"containers": [a_container("1"), a_container("500m"), {}]}) == {"cpu": 1500}


def test_an_init_container_counts_only_where_it_needs_more_than_the_rest() -> None:
    """Kubernetes, Sidecar containers, Resource sharing within containers."""
    pod = {"containers": [a_container("1")], "initContainers": [a_container("3"), a_container("2")]}
    assert pod_limits(pod) == {"cpu": 3000}


def test_a_sidecar_counts_beside_the_containers_and_beside_later_init_containers() -> None:
    """The same page."""
    sidecar = a_container("1", restartPolicy="Always")
    pod = {"containers": [a_container("1")], "initContainers": [a_container("2"), sidecar]}
    assert pod_limits(pod) == {"cpu": 2000}
    pod["initContainers"] = [sidecar, a_container("2")]
    assert pod_limits(pod) == {"cpu": 3000}
