from hypothesis import given
from hypothesis import strategies as st

from phjob_pod_manager.log_archive.head_tail import NOTE, HeadTailBuffer


def kept(chunks: list[bytes], max_bytes: int) -> bytes:
    buffer = HeadTailBuffer(max_bytes)
    return b"".join(buffer.feed(chunk) for chunk in chunks) + buffer.end()


@given(st.lists(st.binary(max_size=50)), st.integers(2, 100))
def test_a_log_is_kept_completely_or_as_its_head_and_tail_with_a_note_between(
    chunks: list[bytes], max_bytes: int
) -> None:
    """The result does not depend on the chunks."""
    log = b"".join(chunks)
    if len(log) <= max_bytes:
        assert kept(chunks, max_bytes) == log
        return
    tail = max_bytes // 2
    note = NOTE.format(len(log) - max_bytes).encode()
    assert kept(chunks, max_bytes) == log[: max_bytes - tail] + note + log[-tail:]
