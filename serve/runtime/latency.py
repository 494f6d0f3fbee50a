"""Latency heuristic: run an invocation inline on the event loop, or offload it to a thread.

Offloading costs 0.1 ms, half the time of a small invocation. But the time depends on the model and
on the content of the body: 64 KiB of plain CSV take less than a millisecond, and of oddly written
numbers 30 ms. 4 KiB of one digit a line are 2,000 records, for which a large model takes 0.7 s. A
ping would wait all that time.
"""

# Larger bodies are always offloaded.
_MAX_BYTES = 2**16
_MAX_SECONDS = 0.002
# After one invocation of 50 ms, about 160 quick ones bring the estimate below the limit again.
_DECAY = 0.98
# The first invocation of each size is offloaded; if it is quick, the next one runs inline.
_UNKNOWN_SECONDS = _MAX_SECONDS / _DECAY


class LatencyHeuristic:
    """Estimates the CPU time of a model's invocations by the size of their bodies.

    The estimate is a decaying maximum, not a mean: a ping waits for the slowest invocation.
    Thread-safe: a measurement that is lost in a race is followed by others.
    """

    def __init__(self) -> None:
        # By the number of bits of the size, so that each is for sizes within a factor of two.
        self._seconds = [_UNKNOWN_SECONDS] * (_MAX_BYTES.bit_length() + 1)

    def is_quick(self, n_bytes: int) -> bool:
        """True if an invocation with a body of this size is expected to take at most 2 ms."""
        return n_bytes <= _MAX_BYTES and self._seconds[n_bytes.bit_length()] <= _MAX_SECONDS

    def record(self, n_bytes: int, seconds: float) -> None:
        """Record one invocation.

        Args:
            n_bytes: Size of its body.
            seconds: CPU time of its thread, which other threads do not add to.
        """
        if n_bytes <= _MAX_BYTES:
            size = n_bytes.bit_length()
            self._seconds[size] = max(seconds, _DECAY * self._seconds[size])
