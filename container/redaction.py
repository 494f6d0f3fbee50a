"""Redaction of secrets in the log and in the failure file.

Two rules: the value of a variable or hyperparameter with a secret name is masked wherever it
occurs, and so is text that looks like a secret (AWS keys, signed URLs, passwords in URLs, bearer
tokens).
"""

import json
import re
from collections.abc import Mapping

MASK = "***"
# Shorter values occur in other text by chance.
_MIN_CHARACTERS = 5
_SECRET_NAME = re.compile(
    r"secret|password|passwd|passphrase|credential|access_?key|private_?key|api_?key"
    r"|(^|[_.-])(token|auth|pwd)$",
    re.IGNORECASE,
)
_LOOKS_SECRET = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(?<=://)[^/\s:@\"']+:[^/\s@\"']+(?=@)"),
    re.compile(r"(?i)(?<=\bbearer )[\w.~+/=-]+"),
    re.compile(
        r"(?i)(?<![a-z])(?P<name>x-amz-(?:signature|security-token|credential)|aws_secret_access_key"
        r"|aws_session_token|password|passwd|api_?key|secret)(?P<sign>[\"']?\s*[:=]\s*[\"']?)"
        r"[^\s&\"',;]+"
    ),
)


class Redactor:
    """Callable: replaces each secret in a text by `***`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Learn the secrets among `variables`."""
        self._values: set[str] = set()
        self.learn(variables)

    def learn(self, values: Mapping[str, str]) -> None:
        """Remember the values with secret names."""
        for name, value in values.items():
            if is_secret(name) and len(value) >= _MIN_CHARACTERS:
                self._values |= {value, json.dumps(value)[1:-1]}

    def __call__(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, MASK)
        for pattern in _LOOKS_SECRET:
            keeps_name = "name" in pattern.groupindex
            text = pattern.sub(rf"\g<name>\g<sign>{MASK}" if keeps_name else MASK, text)
        return text


def is_secret(name: str) -> bool:
    """Return True if the name of a variable or hyperparameter is that of a secret."""
    return _SECRET_NAME.search(name) is not None


def mask(values: Mapping[str, str]) -> dict[str, str]:
    """Mask the values with secret names, of any length, for the log."""
    return {name: MASK if is_secret(name) else value for name, value in values.items()}
