"""Flow control of answers: the wait for slow readers, and its end for clients that read nothing."""

import asyncio

# Limit of the time in which a client reads nothing of an answer of more than 64 KiB.
_UNREAD_SECONDS = 30.0


class WriteFlow:
    """The state of a connection's write buffer, which the transport calls full above 64 KiB."""

    __slots__ = ("_loop", "_timer", "_transport", "_waiters", "is_paused")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.is_paused = False
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def pause(self) -> None:
        """Watch the client: the write buffer is full, and `drained` waits until it is read."""
        self.is_paused = True
        self._watch(self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """End all waits: the write buffer was read, or its client is gone. Idempotent."""
        self.is_paused = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def drained(self) -> None:
        """Wait while the write buffer is full."""
        if self.is_paused:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _watch(self, n_bytes: int) -> None:
        self._timer = self._loop.call_later(_UNREAD_SECONDS, self._check, n_bytes)

    def _check(self, n_bytes: int) -> None:
        n_unread = self._transport.get_write_buffer_size()
        if n_unread < n_bytes:
            self._watch(n_unread)
        else:  # `close` would wait until the write buffer is empty
            self._transport.abort()
