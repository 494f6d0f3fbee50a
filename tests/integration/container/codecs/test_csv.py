"""CSV: every way of reading it gives one answer, whatever stands beside a line."""

import subprocess
import sys

import pytest

_BODY_BYTES = 40 * 2**20
_MEMORY_PROBE = r"""
import re, sys
from container.codecs.csv import csv_codec
from container.codecs.records import Columns
from container.errors import MalformedPayloadError

def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024

csv_codec.decode(b"1,2\n" * 200_000, Columns())  # what a thread keeps from one body to the next
start, repeated, n_bytes = sys.argv[1].encode(), sys.argv[2].encode(), int(sys.argv[3])
body = start + repeated * (n_bytes // len(repeated)) + b"1"
before = peak()
try:
    csv_codec.decode(body, Columns(n_features=2))
except MalformedPayloadError:
    pass
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("start", "repeated", "in_bodies"),
    [
        ("", "1.234567,2.345678\n", 8 / 18),
        ("", ",2.345678\n", 8 / 10),
        ("", '"1.2345678901234567","2"\n1.2345678901234567,2\n', 16 / 48),
        ("", "1,", 0),
        ("", '"1",', 0),
        ("1,2\n", '1,"",', 1),
        ("", "\n", 0),
    ],
)
def test_csv_takes_little_memory_beyond_its_numbers(
    start: str, repeated: str, in_bodies: float
) -> None:
    """A body of any length and any width is read in pieces, straight into its matrix."""
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROBE, start, repeated, str(_BODY_BYTES)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(run.stdout) < in_bodies * _BODY_BYTES + 16 * 2**20
