"""Shortening of absolute host paths in messages that clients read."""

import re
from pathlib import Path

# Excludes the slashes of URLs, media types and fractions.
_ABSOLUTE = re.compile(r"(?<![\w.:/~])(?:/[^\s/'\"`()\[\]<>,;:]+){2,}/?")
_PLATFORM = "/opt/ml/"  # the same in every container: it reveals nothing of the host


def shorten(text: str, base: Path | None = None) -> str:
    """Replace absolute paths: below `base` by relative ones, others by `…/` and their last part.

    Paths below `/opt/ml`, the platform's own, are kept.
    """
    if base is not None:
        for directory in {str(base), str(base.resolve())}:
            text = re.sub(rf"{re.escape(directory)}/(?=[^\s'\"])", "", text)
            text = re.sub(rf"{re.escape(directory)}(?![\w.-])", "the model directory", text)
    return _ABSOLUTE.sub(_short, text)


def _short(path: re.Match[str]) -> str:
    if f"{path[0]}/".startswith(_PLATFORM):
        return path[0]
    return f"…/{path[0].rstrip('/').rpartition('/')[2]}"
