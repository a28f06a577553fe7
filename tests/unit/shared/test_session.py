from shared.messages import Heartbeat, Message, SnapshotBegin, SnapshotEnd
from shared.session import Envelope, Follower, Stream, Verdict, asked_by

BEAT = Heartbeat()


class Wire:
    """A publisher's stream as a consumer gets it, with whatever happens on the way."""

    def __init__(self, session: str = "1") -> None:
        self.sent: list[Envelope] = []
        self.stream = Stream("watcher", session, lambda _, envelope: self.sent.append(envelope))

    def send(self, *messages: Message) -> list[Envelope]:
        start = len(self.sent)
        for message in messages:
            self.stream.send("queue", message)
        return self.sent[start:]

    def snapshot(self, request: str) -> list[Envelope]:
        return self.send(SnapshotBegin(request=request, revisions={}), BEAT, SnapshotEnd(request=request))


def verdicts(follower: Follower, envelopes: list[Envelope]) -> list[Verdict]:
    return [follower.receive(envelope) for envelope in envelopes]


def following(wire: Wire) -> Follower:
    """A follower that has its snapshot."""
    follower = Follower("me")
    verdicts(follower, wire.snapshot(follower.ask()))
    return follower


def test_a_new_follower_asks_at_the_first_message() -> None:
    """It knows nothing of what was before."""
    assert verdicts(Follower("me"), Wire().send(BEAT)) == [Verdict.ASK]


def test_what_cannot_be_read_begins_no_session() -> None:
    """Whoever wrote it could name a session that no watcher ever reaches."""
    wire = Wire()
    follower = following(wire)
    assert follower.receive(Envelope("watcher", "zzz", 0, None)) is Verdict.DROP
    assert verdicts(follower, wire.send(BEAT)) == [Verdict.APPLY]


def test_what_follows_the_snapshot_is_applied() -> None:
    """A snapshot plus the facts after it."""
    wire = Wire()
    follower = Follower("me")
    request = follower.ask()
    assert verdicts(follower, wire.snapshot(request)) == [Verdict.BEGIN, Verdict.APPLY, Verdict.END]
    assert follower.whole
    assert verdicts(follower, wire.send(BEAT)) == [Verdict.APPLY]


def test_what_comes_before_the_snapshot_is_dropped() -> None:
    """It belongs to a state that the follower does not have."""
    wire = Wire()
    follower = Follower("me")
    verdicts(follower, wire.send(BEAT))
    request = follower.ask()
    assert verdicts(follower, wire.send(BEAT)) == [Verdict.DROP]
    assert verdicts(follower, wire.snapshot(request))[0] is Verdict.BEGIN


def test_another_consumers_snapshot_is_not_taken_for_ones_own() -> None:
    """A standby that asked, or a request that was given up."""
    wire = Wire()
    follower = Follower("me")
    old = follower.ask()
    follower.ask()
    assert verdicts(follower, wire.snapshot(old))[1:] == [Verdict.DROP, Verdict.DROP]
    assert not follower.whole


def test_a_gap_drops_all_and_asks() -> None:
    """Something was lost, and nobody knows what."""
    wire = Wire()
    follower = following(wire)
    lost, after = wire.send(BEAT, BEAT)
    assert follower.receive(after) is Verdict.ASK
    assert not follower.whole
    assert follower.receive(lost) is Verdict.DROP


def test_a_duplicate_is_dropped() -> None:
    """A redelivery, or a publisher's second try."""
    wire = Wire()
    follower = following(wire)
    (envelope,) = wire.send(BEAT)
    assert verdicts(follower, [envelope, envelope]) == [Verdict.APPLY, Verdict.DROP]


def test_a_new_publisher_is_asked_even_if_its_numbers_fit() -> None:
    """A new session starts a new stream."""
    follower = following(Wire("1"))
    newer = Wire("2")
    assert verdicts(follower, newer.send(BEAT)) == [Verdict.ASK]
    assert verdicts(follower, newer.snapshot(follower.ask()))[-1] is Verdict.END


def test_a_predecessor_that_wakes_up_is_ignored() -> None:
    """Its session is older than one that was seen."""
    older, newer = Wire("1"), Wire("2")
    follower = following(newer)
    assert verdicts(follower, older.send(BEAT, BEAT)) == [Verdict.DROP, Verdict.DROP]
    assert follower.whole


def test_a_snapshot_that_breaks_off_is_asked_for_again() -> None:
    """A gap inside of it leaves the follower with nothing."""
    wire = Wire()
    follower = Follower("me")
    begin, _, end = wire.snapshot(follower.ask())
    assert verdicts(follower, [begin, end]) == [Verdict.BEGIN, Verdict.ASK]
    assert not follower.whole


def test_a_message_that_could_not_be_decoded_still_counts() -> None:
    """It went to the dead-letter queue, and must not look like a loss."""
    wire = Wire()
    follower = following(wire)
    first, second = wire.send(BEAT, BEAT)
    poison = Envelope(first.publisher, first.session, first.number, None)
    assert verdicts(follower, [poison, second]) == [Verdict.APPLY, Verdict.APPLY]


def test_a_request_says_whose_it_is_and_which() -> None:
    """However its asker is called; and what nobody here asks is somebody's first."""
    follower = Follower("scheduler.0-1~4/2")
    follower.ask()
    assert asked_by(follower.ask()) == ("scheduler.0-1~4/2", 2)
    assert asked_by("anything") == ("anything", 0)
    assert asked_by("me/" + "9" * 5000) == ("me/" + "9" * 5000, 0)
