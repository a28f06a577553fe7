"""The admissions that are decided and not observed yet, and which of them are overdue. Pure.

pod-manager executes the commands of a group in sequence. While the admissions of a group are observed one
after the other, the later ones only wait for their turn, however many there are.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

RESERVATION_TIMEOUT = timedelta(seconds=60)
"""The time without progress after which a command or a fact may be lost."""


class OutstandingAdmission(NamedTuple):
    """An admission that is not observed yet."""

    uid: str
    label: str
    """The label value of its group."""
    number: int
    """Its position among all admissions of the session."""
    decided: datetime
    timeout: datetime


class OutstandingAdmissions:
    """The admissions of a session that are not observed yet, the earliest timeout first."""

    def __init__(self) -> None:
        self._by_uid: dict[str, OutstandingAdmission] = {}
        self._progress: dict[str, tuple[int, datetime]] = {}
        """The number of the latest admission of each group that ended, and when, by the label."""

    def add(self, uid: str, label: str, number: int, now: datetime) -> None:
        """Add an admission, because it is decided."""
        self._by_uid[uid] = OutstandingAdmission(uid, label, number, now, now + RESERVATION_TIMEOUT)

    def end(self, uid: str, now: datetime) -> None:
        """Remove an admission, because its outcome is observed, or its job is gone."""
        admission = self._by_uid.pop(uid, None)
        if admission:
            self._progress[admission.label] = admission.number, now

    def next_timeout(self) -> datetime | None:
        """Return when an admission may be overdue next; None if there is none."""
        return next((admission.timeout for admission in self._by_uid.values()), None)

    def take_overdue(self, now: datetime) -> list[str]:
        """Return the uids of the jobs whose admission is overdue, each once.

        An admission gets another timeout if an earlier one of its group ended meanwhile. If a later one did,
        it was lost.
        """
        overdue: list[str] = []
        while (timeout := self.next_timeout()) and timeout <= now:
            admission = self._by_uid.pop(next(iter(self._by_uid)))
            number, progress = self._progress.get(admission.label, (0, admission.decided))
            if number < admission.number and progress > timeout - RESERVATION_TIMEOUT:
                # The timeouts stay in order, because none is later than this one.
                again = admission._replace(timeout=now + RESERVATION_TIMEOUT)
                self._by_uid[again.uid] = again
            else:
                overdue.append(admission.uid)
        if not self._by_uid:
            self._progress.clear()
        return overdue

    def __iter__(self) -> Iterator[OutstandingAdmission]:
        """Iterate over all admissions. Another thread may do this, for the metrics."""
        return iter(list(self._by_uid.values()))
