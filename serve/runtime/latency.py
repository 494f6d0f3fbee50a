"""Which invocations of a model are quick enough for the event loop, learnt from those before.

Handing one over to a thread costs 0.1 ms, half of what a small one takes. But how long one takes
depends on the model and on what is in the body: 64 KiB of plain CSV take less than a millisecond,
of oddly written numbers 30; 4 KiB of one digit a line are 2,000 records, which a large model takes
0.7 s for; and all that time a ping would wait.
"""

# Larger bodies are never tried on the event loop.
_MAX_BYTES = 2**16
_MAX_SECONDS = 0.002
# What one slow invocation is remembered for: 50 ms fall below the limit in some 160 quick ones.
_DECAY = 0.98
# The first of each size is tried in a thread, and if it is quick, it is the only one.
_UNKNOWN_SECONDS = _MAX_SECONDS / _DECAY


class Pace:
    """Remembers the time that invocations of each size took. Safe from several threads: a note
    that is lost is followed by others."""

    def __init__(self) -> None:
        # By the number of bits of the size, so that each is for sizes within a factor of two.
        self._seconds = [_UNKNOWN_SECONDS] * (_MAX_BYTES.bit_length() + 1)

    def is_quick(self, n_bytes: int) -> bool:
        """Whether an invocation of this size may be expected to take no more than 2 ms."""
        return n_bytes <= _MAX_BYTES and self._seconds[n_bytes.bit_length()] <= _MAX_SECONDS

    def note(self, n_bytes: int, seconds: float) -> None:
        """Say what CPU time one has taken; others may have run meanwhile."""
        if n_bytes <= _MAX_BYTES:
            size = n_bytes.bit_length()
            self._seconds[size] = max(seconds, _DECAY * self._seconds[size])
