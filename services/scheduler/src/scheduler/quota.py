"""Who holds how much of a group, and whether something more fits.

A `Ledger` is one group's account, by user and in total; the rules that use it are `queue`'s.
Amounts are `shared.resources.Amounts`, charged (every GPU counts as `gpu` too).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.resources import Amounts, render


@dataclass(frozen=True)
class Shortage:
    """A resource of which there is too little: how much is used, allowed and asked for."""

    resource: str
    used: int
    limit: int
    needs: int


class Ledger:
    """What is held in one group: each holder's amounts, and their sums."""

    def __init__(self) -> None:
        self._holders: dict[str, tuple[str, Amounts]] = {}
        self._holds_of: dict[str, int] = {}
        self.group: dict[str, int] = {}
        self.users: dict[str, dict[str, int]] = {}

    def hold(self, holder: str, user: str, amounts: Amounts) -> None:
        """Let `holder` (a pod's or a job's uid) hold exactly these amounts for the user."""
        self.release(holder)
        self._holders[holder] = (user, amounts)
        self._holds_of[user] = self._holds_of.get(user, 0) + 1
        for resource, amount in amounts.items():
            of_user = self.users.setdefault(user, {})
            self.group[resource] = self.group.get(resource, 0) + amount
            of_user[resource] = of_user.get(resource, 0) + amount

    def release(self, holder: str) -> str | None:
        """Let `holder` hold nothing; the user it held for, if it held something."""
        held = self._holders.pop(holder, None)
        if held is None:
            return None
        user, amounts = held
        for resource, amount in amounts.items():
            self.group[resource] -= amount
            self.users[user][resource] -= amount
        self._holds_of[user] -= 1
        if not self._holds_of[user]:
            del self._holds_of[user]
            self.users.pop(user, None)
        return user

    def held(self, holder: str) -> tuple[str, Amounts] | None:
        """For which user the holder holds what, if it does."""
        return self._holders.get(holder)

    def holders(self) -> Iterator[tuple[str, Amounts]]:
        """Each holder, and what it holds."""
        return ((holder, amounts) for holder, (_, amounts) in self._holders.items())

    def used_by(self, user: str) -> Amounts:
        """What the user holds in this group."""
        return self.users.get(user, {})

    def __len__(self) -> int:
        """How many hold something."""
        return len(self._holders)


def shortages(used: Amounts, request: Amounts, quota: Amounts) -> Iterator[Shortage]:
    """Each resource of the request that does not fit; one without a quota always does."""
    for resource, needs in request.items():
        limit = quota.get(resource)
        if limit is not None and used.get(resource, 0) + needs > limit:
            yield Shortage(resource, used.get(resource, 0), limit, needs)


def fits(used: Amounts, request: Amounts, quota: Amounts) -> bool:
    """Whether there is no shortage: asked for each decision, so without making one."""
    for resource, needs in request.items():
        limit = quota.get(resource)
        if limit is not None and used.get(resource, 0) + needs > limit:
            return False
    return True


def why_waiting(scope: str, short: Iterator[Shortage]) -> str:
    """`group quota: gpu 2 of 4 used, needs 4` (contract.md, Queueing 6)."""
    return f"{scope} quota: " + "; ".join(
        f"{s.resource} {render(s.resource, s.used)} of {render(s.resource, s.limit)} used, "
        f"needs {render(s.resource, s.needs)}"
        for s in short
    )


def why_impossible(scope: str, short: Iterator[Shortage]) -> str:
    """What a job that can never fit is told: resource, request and limit (Queueing 4)."""
    return "; ".join(
        f"needs {s.resource} {render(s.resource, s.needs)}, "
        f"but the {scope} quota is {render(s.resource, s.limit)}"
        for s in short
    )
