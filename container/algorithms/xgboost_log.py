"""XGBoost's own messages as events of our log.

Its package makes Python warnings of them, time stamp, source path and all, or prints them.
"""

import ctypes
import logging
import re
from functools import cache

import xgboost

logger = logging.getLogger(__name__)

_MESSAGE = re.compile(
    r"\[[\d:]+\]\s+(?:(?P<level>[A-Z]+):\s+)?(?:\S+:\d+:\s+)?(?P<text>.*)", re.DOTALL
)
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


@cache
def forward() -> object:
    """Send what the library says to the log, from now on and in the whole process.

    Returns:
        The function that the library calls, which the cache keeps alive.
    """
    callback = _Callback(_log)
    xgboost.core._check_call(xgboost.core._LIB.XGBRegisterLogCallback(callback))
    return callback


def _log(message: bytes) -> None:
    """Called by the library, with e.g. `[12:00:00] WARNING: /src/learner.cc:790: …`."""
    given = message.decode(errors="replace").strip()
    found = _MESSAGE.fullmatch(given)
    level = found["level"] if found else None
    text = " ".join((found["text"] if found else given).split())
    severity = logging.WARNING if level in ("WARNING", "ERROR") else logging.INFO
    logger.log(severity, "xgboost_message", extra={"text": text})
