"""A buffer that keeps the beginning and the end of a long log, with a note between them. Pure."""

MAX_TAIL_BYTES = 1024**2
"""The bytes of the end that are kept, because a failing command reports its error there."""
NOTE = "\n--- phjob: {} bytes left out here: the log is longer than logArchive.maxBytes ---\n"


class HeadTailBuffer:
    """The head of a log goes straight through; at most twice `MAX_TAIL_BYTES` of its tail are held."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: the bytes of the log that are kept; the note comes on top."""
        self._tail_size = min(MAX_TAIL_BYTES, max_bytes // 2)
        self._head_left = max_bytes - self._tail_size
        self._tail = bytearray()
        self._left_out = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk of the log. Returns the part of it that belongs to the head."""
        head, rest = chunk[: self._head_left], chunk[self._head_left :]
        self._head_left -= len(head)
        self._tail += rest
        # Twice the size, so that not every chunk moves the whole tail.
        if len(self._tail) > 2 * self._tail_size:
            self._cut()
        return head

    def end(self) -> bytes:
        """Return the tail of the log, after a note if bytes before it were left out."""
        self._cut()
        note = NOTE.format(self._left_out).encode() if self._left_out else b""
        return note + self._tail

    def _cut(self) -> None:
        """Leave out the beginning of a tail that is too long."""
        surplus = len(self._tail) - self._tail_size
        if surplus > 0:
            del self._tail[:surplus]
            self._left_out += surplus
