"""Forward messages of the XGBoost library to the log.

The xgboost package would print them, or make Python warnings of them.
"""

import logging
import re

from container.algorithms.xgboost.serving import c_api

logger = logging.getLogger(__name__)

_MESSAGE = re.compile(
    r"\[[\d:]+\]\s+(?:(?P<level>[A-Z]+):\s+)?(?:\S+:\d+:\s+)?(?P<text>.*)", re.DOTALL
)


def forward() -> None:
    """Send the library's messages of this thread to the log.

    Call it after the package has been imported, which installs a callback of its own.
    """
    c_api.on_message(_log)


def _log(message: bytes) -> None:
    """Log one message of the library, e.g. `[12:00:00] WARNING: /src/learner.cc:790: …`."""
    given = message.decode(errors="replace").strip()
    found = _MESSAGE.fullmatch(given)
    level = found["level"] if found else None
    text = " ".join((found["text"] if found else given).split())
    severity = logging.WARNING if level in ("WARNING", "ERROR") else logging.INFO
    logger.log(severity, "xgboost_message", extra={"text": text})
