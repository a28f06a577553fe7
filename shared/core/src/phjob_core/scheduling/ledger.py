"""The ledger of one group: all charges, their sums, and what still fits beside them. Pure.

Amounts are charges of `phjob_core.quantities`: every GPU also counts as `gpu`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from phjob_core.quantities import Amounts, render


class Charge(NamedTuple):
    """What one holder uses, and the user that it counts for."""

    user: str
    """The label value of the user's name."""
    amounts: Amounts


@dataclass(frozen=True)
class Shortage:
    """A resource of a request that does not fit: its usage, its quota, and the request."""

    resource: str
    used: int
    limit: int
    needs: int


class Ledger:
    """The charges of one group by holder, and their sums. A holder is the uid of a pod or a job."""

    def __init__(self) -> None:
        self._charges: dict[str, Charge] = {}
        self._charge_counts: dict[str, int] = {}
        """The number of charges of each user."""
        self.group_usage: dict[str, int] = {}
        """The sum of all charges."""
        self.user_usage: dict[str, dict[str, int]] = {}
        """The sum of each user's charges."""

    def charge(self, holder: str, user: str, amounts: Amounts) -> None:
        """Set the holder's charge. It replaces an earlier one."""
        self.release(holder)
        self._charges[holder] = Charge(user, amounts)
        self._charge_counts[user] = self._charge_counts.get(user, 0) + 1
        for resource, amount in amounts.items():
            of_user = self.user_usage.setdefault(user, {})
            self.group_usage[resource] = self.group_usage.get(resource, 0) + amount
            of_user[resource] = of_user.get(resource, 0) + amount

    def release(self, holder: str) -> str | None:
        """Remove the holder's charge. Returns the user that it counted for; None if there was none."""
        charge = self._charges.pop(holder, None)
        if charge is None:
            return None
        for resource, amount in charge.amounts.items():
            self.group_usage[resource] -= amount
            self.user_usage[charge.user][resource] -= amount
        self._charge_counts[charge.user] -= 1
        if not self._charge_counts[charge.user]:
            del self._charge_counts[charge.user]
            self.user_usage.pop(charge.user, None)
        return charge.user

    def charge_of(self, holder: str) -> Charge | None:
        """Return the holder's charge; None if there is none."""
        return self._charges.get(holder)

    def charges(self) -> Iterator[tuple[str, Amounts]]:
        """Iterate over all holders and the amounts of their charges, as they are now."""
        # A copy, because metrics are read in another thread.
        return ((holder, charge.amounts) for holder, charge in list(self._charges.items()))

    def used_by(self, user: str) -> Amounts:
        """Return the sum of the user's charges."""
        return self.user_usage.get(user, {})

    def __len__(self) -> int:
        """Return the number of charges."""
        return len(self._charges)


def shortages(used: Amounts, request: Amounts, quota: Amounts) -> Iterator[Shortage]:
    """Yield each resource of the request that does not fit. A resource without a quota always fits."""
    for resource, needs in request.items():
        limit = quota.get(resource)
        if limit is not None and used.get(resource, 0) + needs > limit:
            yield Shortage(resource, used.get(resource, 0), limit, needs)


def fits(used: Amounts, request: Amounts, quota: Amounts) -> bool:
    """Return whether there is no shortage.

    Each decision calls it. It creates no `Shortage`, because that would take most of the time.
    """
    for resource, needs in request.items():
        limit = quota.get(resource)
        if limit is not None and used.get(resource, 0) + needs > limit:
            return False
    return True


def describe_shortages(scope: str, short: Iterator[Shortage]) -> str:
    """Return why a job waits (spec.md, Q6), such as `group quota: gpu 2 of 4 used, needs 4`."""
    return f"{scope} quota: " + "; ".join(
        f"{s.resource} {render(s.resource, s.used)} of {render(s.resource, s.limit)} used, "
        f"needs {render(s.resource, s.needs)}"
        for s in short
    )


def describe_infeasibility(scope: str, short: Iterator[Shortage]) -> str:
    """Return why a job can never fit (spec.md, Q4), such as `needs gpu 8, but the user quota is 4`."""
    return "; ".join(
        f"needs {s.resource} {render(s.resource, s.needs)}, "
        f"but the {scope} quota is {render(s.resource, s.limit)}"
        for s in short
    )
