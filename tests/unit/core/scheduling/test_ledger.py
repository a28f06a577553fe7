from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phjob_core.scheduling.ledger import (
    Charge,
    Ledger,
    Shortage,
    describe_infeasibility,
    describe_shortages,
    fits,
    shortages,
)

GIB = 1024**3


def test_a_charge_counts_for_its_user_and_its_group() -> None:
    """Both quotas apply to it (spec.md, A6)."""
    ledger = Ledger()
    ledger.charge("job", "bob", {"gpu": 2})
    ledger.charge("pod", "lin", {"gpu": 1, "cpu": 500})
    assert ledger.group_usage == {"gpu": 3, "cpu": 500}
    assert (ledger.used_by("bob"), ledger.used_by("lin")) == ({"gpu": 2}, {"gpu": 1, "cpu": 500})
    assert dict(ledger.charges()) == {"job": {"gpu": 2}, "pod": {"gpu": 1, "cpu": 500}}


def test_a_second_charge_replaces_the_first() -> None:
    """A holder counts once, also after its job was requeued with other limits."""
    ledger = Ledger()
    ledger.charge("job", "bob", {"gpu": 2})
    ledger.charge("job", "bob", {"gpu": 1})
    assert ledger.group_usage == {"gpu": 1}
    assert ledger.charge_of("job") == Charge("bob", {"gpu": 1})
    assert len(ledger) == 1


def test_a_release_returns_the_user_whose_usage_sinks() -> None:
    """The queue considers the user's head again."""
    ledger = Ledger()
    ledger.charge("job", "bob", {"gpu": 2})
    assert ledger.release("job") == "bob"
    assert ledger.release("job") is None
    assert ledger.charge_of("job") is None
    assert ledger.group_usage == {"gpu": 0}


def test_a_user_without_charges_takes_no_memory() -> None:
    """Users come and go for years."""
    ledger = Ledger()
    ledger.charge("job", "bob", {"gpu": 2})
    ledger.charge("empty", "bob", {})
    ledger.release("job")
    assert ledger.used_by("bob") == {"gpu": 0}
    ledger.release("empty")
    assert ledger.user_usage == {}


HOLDERS = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.integers(0, 9), max_size=2)
CHARGES = st.lists(st.tuples(HOLDERS, st.sampled_from(["bob", "lin"]), st.none() | AMOUNTS))


@given(CHARGES)
def test_the_sums_are_those_of_the_current_charges(
    changes: list[tuple[str, str, dict[str, int] | None]],
) -> None:
    """Whatever was charged and released before. None: release."""
    ledger = Ledger()
    current: dict[str, tuple[str, dict[str, int]]] = {}
    for holder, user, amounts in changes:
        if amounts is None:
            ledger.release(holder)
            current.pop(holder, None)
        else:
            ledger.charge(holder, user, amounts)
            current[holder] = (user, amounts)
    for resource in ("cpu", "gpu"):
        by_user: Counter[str] = Counter()
        for user, amounts in current.values():
            by_user[user] += amounts.get(resource, 0)
        assert ledger.group_usage.get(resource, 0) == sum(by_user.values())
        assert all(ledger.used_by(user).get(resource, 0) == by_user[user] for user in ("bob", "lin"))


def test_a_resource_without_a_quota_always_fits() -> None:
    """A quota limits only the resources that it names (spec.md, A6)."""
    assert fits({"cpu": 10**9}, {"cpu": 10**9, "gpu": 1}, {"gpu": 1})
    assert list(shortages({}, {"cpu": 10**9}, {"gpu": 1})) == []


def test_usage_up_to_the_quota_fits_and_above_it_does_not() -> None:
    """The quota itself may be used."""
    assert fits({"gpu": 2}, {"gpu": 2}, {"gpu": 4})
    assert not fits({"gpu": 2}, {"gpu": 3}, {"gpu": 4})


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_request_fits_exactly_if_there_is_no_shortage(
    used: dict[str, int], request: dict[str, int], quota: dict[str, int]
) -> None:
    """The two are written twice, because the decision must be fast."""
    assert fits(used, request, quota) is not any(shortages(used, request, quota))


def test_a_shortage_names_resource_usage_quota_and_request() -> None:
    """Amounts are written as quantities (spec.md, Q6, S1)."""
    short = [
        Shortage("gpu", 2, 4, 4),
        Shortage("memory", 0, 2 * GIB, 4 * GIB),
        Shortage("cpu", 500, 1000, 750),
    ]
    assert describe_shortages("group", iter(short)) == (
        "group quota: gpu 2 of 4 used, needs 4; memory 0 of 2Gi used, needs 4Gi; "
        "cpu 500m of 1 used, needs 750m"
    )
    assert describe_infeasibility("user", iter(short[:2])) == (
        "needs gpu 4, but the user quota is 4; needs memory 4Gi, but the user quota is 2Gi"
    )
