"""JSON: an array of records is read the same in pieces and at once."""

import subprocess
import sys

import pytest

_BODY_BYTES = 8 * 2**20
_MEMORY_PROBE = r"""
import re, sys
from container.codecs.json import json_codec
from container.codecs.records import Columns

def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024

def body(n_bytes):
    return b"[" + b",".join([record] * (n_bytes // len(record))) + b"]"

record = sys.argv[1].encode()
json_codec.decode(body(2**20), Columns())  # what a thread keeps from one body to the next
long = body(int(sys.argv[2]))
before = peak()
json_codec.decode(long, Columns())
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("record", "in_bodies"),
    [
        ("[0.1234,0.5678,0.9012,0.3456]", 1.5),  # the numbers take 0.5
        ("[1,2,3,4,5,6,7,8,9]", 4),  # 2; the C library leaves holes where they grew
        ("[null,0.5678,0.9012,0.3456]", 1.5),
        ('{"features":[0.1234,0.5678,0.9012,0.3456]}', 1.5),
        ("[10000000000000000000000000000,0.1234,0.5678]", 1.5),
    ],
)
def test_json_takes_little_memory_beyond_its_numbers(record: str, in_bodies: float) -> None:
    """Parsed at once, it took 6 to 19 times the body, and 25 with an integer of 100 bits."""
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROBE, record, str(_BODY_BYTES)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(run.stdout) < in_bodies * _BODY_BYTES
