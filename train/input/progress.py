"""Progress of reading a channel, as log events: records, rate, memory."""

import logging
import time

from container import cgroup
from train.input.record_store import RecordStore

logger = logging.getLogger(__name__)

_LOG_SECONDS = 10.0


class Loading:
    """Counters of one pass over the sources of a channel."""

    def __init__(self, channel: str, store: RecordStore) -> None:
        self._channel = channel
        self._store = store
        self._n_rows = 0
        self._n_bytes = 0
        self._began = self._logged = time.monotonic()

    def add(self, n_rows: int, n_bytes: int) -> None:
        """Count records and the bytes, decompressed, that they were read from."""
        self._n_rows += n_rows
        self._n_bytes += n_bytes
        if time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            self._log("channel_loading")

    def finish(self) -> None:
        """Log the totals."""
        self._log("channel_loaded")

    def _log(self, event: str) -> None:
        seconds = time.monotonic() - self._began
        megabytes = self._n_bytes / 1e6
        logger.info(
            event,
            extra={
                "channel": self._channel,
                "n_rows": self._n_rows,
                "mb": round(megabytes, 1),
                "mb_per_second": round(megabytes / max(seconds, 1e-3), 1),
                "duration_seconds": round(seconds, 3),
                "process_memory_mb": round(cgroup.resident_bytes() / 1e6, 1),
                "kept_in_memory_mb": round(self._store.memory_bytes / 1e6, 1),
                "kept_on_disk_mb": round(self._store.file_bytes / 1e6, 1),
            },
        )
