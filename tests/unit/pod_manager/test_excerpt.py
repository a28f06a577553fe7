from hypothesis import given
from hypothesis import strategies as st

from pod_manager.excerpt import NOTE, Excerpt


def kept(pieces: list[bytes], most: int) -> bytes:
    excerpt = Excerpt(most)
    return b"".join(excerpt.feed(piece) for piece in pieces) + excerpt.end()


@given(st.lists(st.binary(max_size=50)), st.integers(2, 100))
def test_a_log_is_kept_whole_or_its_beginning_and_its_end_with_a_note_between(
    pieces: list[bytes], most: int
) -> None:
    """Whatever the pieces that it comes in."""
    log = b"".join(pieces)
    if len(log) <= most:
        assert kept(pieces, most) == log
        return
    tail = most // 2
    note = NOTE.format(len(log) - most).encode()
    assert kept(pieces, most) == log[: most - tail] + note + log[-tail:]
