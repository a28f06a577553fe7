"""A stream of messages that is known to be whole: the session protocol.

A publisher's stream to one queue has a session and running numbers. A consumer's state is a
snapshot plus the facts after it; whenever a number is missing, a publisher is new, or the consumer
itself is, it drops its state and asks. `Follower` decides that, `Stream` numbers. Neither sends,
waits or keeps facts: that is the bus's, the consumer's and the view's part.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from shared.messages import Message, SnapshotBegin, SnapshotEnd


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way: whose it is, and its place in the stream to its queue."""

    publisher: str
    session: str
    number: int
    message: Message | None
    """None: it could not be decoded, and only its place counts."""
    redelivered: bool = False


class Stream:
    """The publisher's side: numbers what it sends to each queue, from 0, within one session.

    `session` orders the sessions of one publisher: a later one compares greater.
    """

    def __init__(self, publisher: str, session: str, send: Callable[[str, Envelope], None]) -> None:
        self.publisher = publisher
        self.session = session
        self._send = send
        self._next: defaultdict[str, int] = defaultdict(int)

    def send(self, queue: str, message: Message) -> None:
        """Hand the message to the bus under the queue's next number."""
        number = self._next[queue]
        self._next[queue] = number + 1
        self._send(queue, Envelope(self.publisher, self.session, number, message))


def asked_by(request: str) -> tuple[str, int]:
    """Whose request for a snapshot that is, and which of its requests (`Follower.request`).

    Of a name that no `Follower` gives: 0.
    """
    asker, _, number = request.rpartition("/")
    try:
        return asker, int(number)
    except ValueError:
        return request, 0


class Verdict(Enum):
    """What a consumer shall do with a message of the stream that it follows."""

    DROP = auto()
    """Nothing: a duplicate, a predecessor's, or from before the snapshot."""
    APPLY = auto()
    """Handle it: it follows without a gap on what was handled before."""
    BEGIN = auto()
    """Forget all that is known of the stream: the snapshot that was asked for starts here."""
    END = auto()
    """The snapshot is complete: what is known is now true and whole."""
    ASK = auto()
    """Forget all and ask for a snapshot: something is, or may be, missing."""


class Follower:
    """The consumer's side of one publisher's stream."""

    def __init__(self, identity: str) -> None:
        """`identity` names this consumer's process: no two may have the same."""
        self._identity = identity
        self._asked = 0
        self._session = ""
        self._expected = 0
        self._following = False
        self.in_snapshot = False

    @property
    def request(self) -> str:
        """The name of the latest request for a snapshot."""
        return f"{self._identity}/{self._asked}"

    def ask(self) -> str:
        """Start over: the name of a new request, whose answer alone will be followed."""
        self._asked += 1
        self._following = self.in_snapshot = False
        return self.request

    @property
    def whole(self) -> bool:
        """Whether a complete snapshot has been received and nothing was lost since."""
        return self._following and not self.in_snapshot

    def receive(self, envelope: Envelope) -> Verdict:
        """The verdict on the stream's next message."""
        if envelope.session < self._session:
            return Verdict.DROP
        renewed = envelope.session > self._session
        if renewed and envelope.message is None:
            return Verdict.DROP  # What can't be read is no proof of a new session.
        if renewed:
            self._session, self._expected = envelope.session, envelope.number
        if envelope.number < self._expected:
            return Verdict.DROP
        gap = renewed or envelope.number > self._expected
        self._expected = envelope.number + 1
        return self._judge(envelope.message, gap=gap)

    def _judge(self, message: Message | None, *, gap: bool) -> Verdict:
        match message:
            case SnapshotBegin(request=request) if self._asked and request == self.request:
                if self._following and not gap:
                    return Verdict.DROP
                self._following = self.in_snapshot = True
                return Verdict.BEGIN
            case _ if gap:
                self._following = self.in_snapshot = False
                return Verdict.ASK
            case SnapshotEnd(request=request) if self.in_snapshot and request == self.request:
                self.in_snapshot = False
                return Verdict.END
            case SnapshotBegin() | SnapshotEnd():
                return Verdict.DROP
            case _ if self._following:
                return Verdict.APPLY
        return Verdict.DROP
