from phjob_core.messages import Heartbeat, Message, SnapshotBegin, SnapshotEnd
from phjob_core.stream import Envelope, StreamAction, StreamReader, StreamWriter, parse_request_id

BEAT = Heartbeat()


class Wire:
    """A publisher's stream as a consumer receives it, with losses and duplicates."""

    def __init__(self, session: str = "1") -> None:
        self.sent: list[Envelope] = []
        self.stream = StreamWriter("watcher", session, lambda _, envelope: self.sent.append(envelope))

    def send(self, *messages: Message) -> list[Envelope]:
        start = len(self.sent)
        for message in messages:
            self.stream.send("queue", message)
        return self.sent[start:]

    def snapshot(self, request: str) -> list[Envelope]:
        return self.send(SnapshotBegin(request=request, revisions={}), BEAT, SnapshotEnd(request=request))


def actions(reader: StreamReader, envelopes: list[Envelope]) -> list[StreamAction]:
    return [reader.receive(envelope) for envelope in envelopes]


def a_synced_reader(wire: Wire) -> StreamReader:
    """A reader that has received its snapshot."""
    reader = StreamReader("me")
    actions(reader, wire.snapshot(reader.new_request()))
    return reader


def test_a_new_reader_requests_a_snapshot_at_the_first_message() -> None:
    """It has no state yet."""
    assert actions(StreamReader("me"), Wire().send(BEAT)) == [StreamAction.RESYNC]


def test_an_undecodable_message_starts_no_session() -> None:
    """Another program may have sent it, with a session greater than the watcher's will ever be."""
    wire = Wire()
    reader = a_synced_reader(wire)
    assert reader.receive(Envelope("watcher", "zzz", 0, None)) is StreamAction.DROP
    assert actions(reader, wire.send(BEAT)) == [StreamAction.APPLY]


def test_messages_after_the_snapshot_are_applied() -> None:
    """The state is a snapshot and the facts after it."""
    wire = Wire()
    reader = StreamReader("me")
    request = reader.new_request()
    assert actions(reader, wire.snapshot(request)) == [
        StreamAction.BEGIN,
        StreamAction.APPLY,
        StreamAction.END,
    ]
    assert reader.synced
    assert actions(reader, wire.send(BEAT)) == [StreamAction.APPLY]


def test_messages_before_the_snapshot_are_dropped() -> None:
    """They change a state that the reader does not have."""
    wire = Wire()
    reader = StreamReader("me")
    actions(reader, wire.send(BEAT))
    request = reader.new_request()
    assert actions(reader, wire.send(BEAT)) == [StreamAction.DROP]
    assert actions(reader, wire.snapshot(request))[0] is StreamAction.BEGIN


def test_the_snapshot_of_another_request_is_dropped() -> None:
    """A standby requested it, or the reader itself, before it started over."""
    wire = Wire()
    reader = StreamReader("me")
    old = reader.new_request()
    reader.new_request()
    assert actions(reader, wire.snapshot(old))[1:] == [StreamAction.DROP, StreamAction.DROP]
    assert not reader.synced


def test_a_gap_discards_the_state_and_requests_a_snapshot() -> None:
    """It is unknown which messages were lost."""
    wire = Wire()
    reader = a_synced_reader(wire)
    lost, after = wire.send(BEAT, BEAT)
    assert reader.receive(after) is StreamAction.RESYNC
    assert not reader.synced
    assert reader.receive(lost) is StreamAction.DROP


def test_a_duplicate_is_dropped() -> None:
    """RabbitMQ redelivers, and a publisher repeats what was not confirmed."""
    wire = Wire()
    reader = a_synced_reader(wire)
    (envelope,) = wire.send(BEAT)
    assert actions(reader, [envelope, envelope]) == [StreamAction.APPLY, StreamAction.DROP]


def test_a_new_session_requires_a_snapshot_even_if_its_numbers_fit() -> None:
    """It is another stream, which may have skipped facts."""
    reader = a_synced_reader(Wire("1"))
    newer = Wire("2")
    assert actions(reader, newer.send(BEAT)) == [StreamAction.RESYNC]
    assert actions(reader, newer.snapshot(reader.new_request()))[-1] is StreamAction.END


def test_a_predecessor_that_wakes_up_is_ignored() -> None:
    """Its session is older than the one that is read."""
    older, newer = Wire("1"), Wire("2")
    reader = a_synced_reader(newer)
    assert actions(reader, older.send(BEAT, BEAT)) == [StreamAction.DROP, StreamAction.DROP]
    assert reader.synced


def test_a_snapshot_with_a_gap_is_requested_again() -> None:
    """An incomplete snapshot is useless."""
    wire = Wire()
    reader = StreamReader("me")
    begin, _, end = wire.snapshot(reader.new_request())
    assert actions(reader, [begin, end]) == [StreamAction.BEGIN, StreamAction.RESYNC]
    assert not reader.synced


def test_a_second_answer_to_the_same_request_is_dropped() -> None:
    """Two watchers may have received the request. Reading it again would discard newer facts."""
    wire = Wire()
    reader = StreamReader("me")
    request = reader.new_request()
    actions(reader, wire.snapshot(request))
    again = actions(reader, wire.snapshot(request))
    assert again == [StreamAction.DROP, StreamAction.APPLY, StreamAction.DROP]
    assert reader.synced


def test_a_later_snapshot_of_another_consumer_requires_a_new_one() -> None:
    """A replaced scheduler has started a session after this one, so pod-manager ignores this one now."""
    wire = Wire()
    reader = StreamReader("me")
    actions(reader, wire.snapshot("other/1"))
    actions(reader, wire.snapshot(reader.new_request()))
    assert reader.synced
    again = actions(reader, wire.snapshot("other/2"))
    assert again == [StreamAction.RESYNC, StreamAction.DROP, StreamAction.DROP]
    assert not reader.synced


def test_an_undecodable_message_keeps_its_position_in_the_stream() -> None:
    """It went to the dead-letter queue, and must not look like a loss."""
    wire = Wire()
    reader = a_synced_reader(wire)
    first, second = wire.send(BEAT, BEAT)
    undecodable = Envelope(first.publisher, first.session, first.sequence, None)
    assert actions(reader, [undecodable, second]) == [StreamAction.APPLY, StreamAction.APPLY]


def test_a_request_id_has_the_requester_and_a_number() -> None:
    """A requester's name may contain any character. An id of another form counts as the first request."""
    reader = StreamReader("scheduler.0-1~4/2")
    reader.new_request()
    assert parse_request_id(reader.new_request()) == ("scheduler.0-1~4/2", 2)
    assert parse_request_id("anything") == ("anything", 0)
    assert parse_request_id("me/" + "9" * 5000) == ("me/" + "9" * 5000, 0)
