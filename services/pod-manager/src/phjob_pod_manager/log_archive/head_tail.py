"""A buffer that keeps the beginning and the end of a long log, with a note between them. Pure."""

from collections import deque

MAX_TAIL_BYTES = 1024**2
"""The bytes of the end that are kept, because a failing command reports its error there."""
NOTE = "\n--- phjob: {} bytes left out here: the log is longer than logArchive.maxBytes ---\n"


class HeadTailBuffer:
    """The head of a log goes straight through; at most `MAX_TAIL_BYTES` of its tail are held."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: the bytes of the log that are kept; the note comes on top."""
        self._tail_size = min(MAX_TAIL_BYTES, max_bytes // 2)
        self._head_left = max_bytes - self._tail_size
        self._tail: deque[bytes] = deque()
        self._tail_length = 0
        self._left_out = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk of the log. Returns the part of it that belongs to the head."""
        head, rest = chunk[: self._head_left], chunk[self._head_left :]
        self._head_left -= len(head)
        if rest:
            self._tail.append(rest)
            self._tail_length += len(rest)
        while self._tail_length > self._tail_size:
            surplus = self._tail_length - self._tail_size
            oldest = self._tail.popleft()
            if len(oldest) > surplus:
                self._tail.appendleft(oldest[surplus:])
            dropped = min(len(oldest), surplus)
            self._tail_length -= dropped
            self._left_out += dropped
        return head

    def end(self) -> bytes:
        """Return the tail of the log, after a note if bytes before it were left out."""
        note = NOTE.format(self._left_out).encode() if self._left_out else b""
        return note + b"".join(self._tail)
