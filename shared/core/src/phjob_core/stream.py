"""A stream of messages in which loss is detected: the session protocol. Pure.

The messages of one publisher to one queue form a stream, with a session and sequence numbers. A
consumer's state is a snapshot plus the facts after it. It discards that state and requests a new snapshot
when a number is missing, when the publisher is new, or when the consumer itself is. `StreamReader` makes
that decision, and `StreamWriter` assigns the numbers. Neither sends, waits or keeps facts: the bus, the
consumer and the object cache do.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from phjob_core.messages import Message, SnapshotBegin, SnapshotEnd


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message in transit: its publisher, and its position in the stream to its queue."""

    publisher: str
    session: str
    sequence: int
    message: Message | None
    """None if it could not be decoded; only its position counts then."""
    redelivered: bool = False


class StreamWriter:
    """The publisher's side: numbers the messages to each queue from 0, within one session.

    `session` orders the sessions of one publisher: that of a later one compares greater.
    """

    def __init__(self, publisher: str, session: str, send: Callable[[str, Envelope], None]) -> None:
        self.publisher = publisher
        self.session = session
        self._send = send
        self._next: defaultdict[str, int] = defaultdict(int)

    def send(self, queue: str, message: Message) -> None:
        """Send the message under the queue's next sequence number."""
        sequence = self._next[queue]
        self._next[queue] = sequence + 1
        self._send(queue, Envelope(self.publisher, self.session, sequence, message))


def parse_request_id(request: str) -> tuple[str, int]:
    """Return a snapshot request's requester, and its number among the requests of that requester.

    The number is 0 if the id was not made by a `StreamReader`.
    """
    requester, _, number = request.rpartition("/")
    try:
        return requester, int(number)
    except ValueError:
        return request, 0


class StreamAction(Enum):
    """What a consumer does with a message of the stream that it reads."""

    DROP = auto()
    """Ignore it: a duplicate, of an earlier session, or from before the snapshot."""
    APPLY = auto()
    """Process it: it follows the last one without a gap."""
    BEGIN = auto()
    """Discard the state: the requested snapshot starts."""
    END = auto()
    """Start to act: the snapshot is complete."""
    RESYNC = auto()
    """Discard the state and request a snapshot: a message was lost, or may have been, or another consumer of
    the queue has requested a snapshot since."""


class StreamReader:
    """The consumer's side of one publisher's stream."""

    def __init__(self, identity: str) -> None:
        """`identity`: the name of this consumer's process; no two may have the same."""
        self._identity = identity
        self._requests = 0
        self._session = ""
        self._expected = 0
        self._reading = False
        self.in_snapshot = False

    @property
    def request(self) -> str:
        """Return the id of the latest snapshot request."""
        return f"{self._identity}/{self._requests}"

    def new_request(self) -> str:
        """Start over. Returns the id of a new snapshot request; only its answer will be read."""
        self._requests += 1
        self._reading = self.in_snapshot = False
        return self.request

    @property
    def synced(self) -> bool:
        """Return whether a complete snapshot was received, and nothing was lost since."""
        return self._reading and not self.in_snapshot

    def is_older(self, envelope: Envelope) -> bool:
        """Return whether the message belongs to an earlier session than the one that is read."""
        return envelope.session < self._session

    def receive(self, envelope: Envelope) -> StreamAction:
        """Return what to do with the stream's next message."""
        if self.is_older(envelope):
            return StreamAction.DROP
        is_new_session = envelope.session > self._session
        if is_new_session and envelope.message is None:
            return StreamAction.DROP  # An undecodable message does not prove a new session.
        if is_new_session:
            self._session, self._expected = envelope.session, envelope.sequence
        if envelope.sequence < self._expected:
            return StreamAction.DROP
        gap = is_new_session or envelope.sequence > self._expected
        self._expected = envelope.sequence + 1
        return self._judge(envelope.message, gap=gap)

    def _judge(self, message: Message | None, *, gap: bool) -> StreamAction:
        match message:
            case SnapshotBegin(request=request) if self._requests and request == self.request:
                if self._reading and not gap:
                    return StreamAction.DROP
                self._reading = self.in_snapshot = True
                return StreamAction.BEGIN
            case _ if gap:
                self._reading = self.in_snapshot = False
                return StreamAction.RESYNC
            case SnapshotEnd(request=request) if self.in_snapshot and request == self.request:
                self.in_snapshot = False
                return StreamAction.END
            case SnapshotBegin(request=request) if (
                self.synced and parse_request_id(request)[0] != self._identity
            ):
                # A replaced scheduler has taken pod-manager from this one.
                self._reading = False
                return StreamAction.RESYNC
            case SnapshotBegin() | SnapshotEnd():
                return StreamAction.DROP
            case _ if self._reading:
                return StreamAction.APPLY
        return StreamAction.DROP
