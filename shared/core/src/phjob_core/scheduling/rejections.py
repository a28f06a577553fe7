"""The jobs that are rejected, and which of the commands are sent. Pure.

pod-manager writes the commands of a group in sequence. Only a few rejections are therefore outstanding at a
time. Without this bound, the admissions of a group would wait behind thousands of rejections, if one of its
users submits thousands of jobs that cannot run.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from phjob_core.messages import Reject

MAX_OUTSTANDING = 16
"""The number of rejections that are sent and have had no effect yet."""
REPEAT_INTERVAL = timedelta(seconds=30)
"""The time after which a rejection without an effect is sent again. The API server may have refused it."""


class Rejections:
    """The rejections that are decided and not observed yet, in the order of the decisions."""

    def __init__(self) -> None:
        self._waiting: dict[str, Reject] = {}
        """By the uid of the job, those that are not sent."""
        self._outstanding: dict[str, tuple[datetime, Reject]] = {}
        """Those that are sent, each with the time of the next attempt; the earliest first."""

    def add(self, command: Reject) -> None:
        """Add the rejection of a job. It replaces an earlier one of the job."""
        self.discard(command.uid)
        self._waiting[command.uid] = command

    def discard(self, uid: str) -> None:
        """Forget the rejection of a job, because it is observed, or no longer wanted."""
        self._waiting.pop(uid, None)
        self._outstanding.pop(uid, None)

    def get(self, uid: str) -> Reject | None:
        """Return the rejection of the job; None if there is none."""
        if command := self._waiting.get(uid):
            return command
        outstanding = self._outstanding.get(uid)
        return outstanding[1] if outstanding else None

    def take_due(self, now: datetime) -> list[Reject]:
        """Return the commands to send now."""
        while (at := self.next_repeat()) and at <= now:
            uid = next(iter(self._outstanding))
            self._waiting[uid] = self._outstanding.pop(uid)[1]
        due: list[Reject] = []
        while self._waiting and len(self._outstanding) < MAX_OUTSTANDING:
            uid = next(iter(self._waiting))
            command = self._waiting.pop(uid)
            self._outstanding[uid] = now + REPEAT_INTERVAL, command
            due.append(command)
        return due

    def next_repeat(self) -> datetime | None:
        """Return when the next command has to be sent again; None if none is outstanding."""
        return next((at for at, _ in self._outstanding.values()), None)

    def __iter__(self) -> Iterator[Reject]:
        """Iterate over all rejections."""
        yield from (command for _, command in self._outstanding.values())
        yield from self._waiting.values()
