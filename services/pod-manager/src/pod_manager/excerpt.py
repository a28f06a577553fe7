"""A log that is longer than what is kept of it: its beginning and its end, and a note between. Pure."""

from collections import deque

TAIL = 1024**2
"""Bytes of the end that are kept: there a failing command says why."""
NOTE = "\n--- phjob: {} bytes left out here: the log is longer than logArchive.maxBytes ---\n"


class Excerpt:
    """Takes a log piece by piece, and gives what is to be kept of it; holds no more than `TAIL`."""

    def __init__(self, most: int) -> None:
        """`most`: bytes that are kept, but for the note."""
        self._tail_size = min(TAIL, most // 2)
        self._head_left = most - self._tail_size
        self._tail: deque[bytes] = deque()
        self._tail_length = 0
        self._left_out = 0

    def feed(self, piece: bytes) -> bytes:
        """What of the next piece belongs to the beginning."""
        head, rest = piece[: self._head_left], piece[self._head_left :]
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
        """The end of the log, behind a note if something before it was left out."""
        note = NOTE.format(self._left_out).encode() if self._left_out else b""
        return note + b"".join(self._tail)
