"""Requests in each server's own format, and which answers count as right."""

import json

import pytest

from benchmarks.harness.formats import FORMATS

ROWS = [[1.5, -2.0], [0.25, 1e-06]]
EXPECTED = [0.125, 0.75]


def test_csv_writes_the_shortest_numbers_and_a_line_each() -> None:
    """As a client would."""
    assert FORMATS["csv"].encode(ROWS) == b"1.5,-2.0\n0.25,1e-06\n"


def test_instances_carries_the_rows() -> None:
    """KServe's version 1, without spaces."""
    assert FORMATS["instances"].encode(ROWS) == b'{"instances":[[1.5,-2.0],[0.25,1e-06]]}'


def test_tensor_carries_shape_and_flat_values() -> None:
    """Version 2 of the open inference protocol."""
    (features,) = json.loads(FORMATS["tensor"].encode(ROWS))["inputs"]

    assert features["shape"] == [2, 2]
    assert features["data"] == [1.5, -2.0, 0.25, 1e-06]
    assert features["datatype"] == "FP32"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("csv", b"0.125\n0.75\n"),
        ("csv", b"0.125,0.75"),
        ("csv", b"0.12500901,0.74999101\r\n"),
        ("instances", b'{"predictions": [0.125, 0.75]}'),
        ("tensor", b'{"outputs": [{"shape": [2, 1], "data": [0.125, 0.75]}]}'),
        ("constant", b"0.5"),
    ],
)
def test_is_right_with_the_expected_predictions(name: str, answer: bytes) -> None:
    """Each within a hundred-thousandth, in any layout that the format allows."""
    assert FORMATS[name].is_right(answer, EXPECTED)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("csv", b"0.125\n0.75002\n"),  # too far off
        ("csv", b"0.75\n0.125\n"),  # in another order
        ("csv", b"0.125\n"),  # too few
        ("csv", b"0.125\n0.75\n0.75\n"),  # too many
        ("csv", b"nan\n0.75\n"),
        ("csv", b""),
        ("csv", b"\xff"),
        ("instances", b'{"error": "busy"}'),
        ("instances", b"[]"),
        ("instances", b'{"predictions": [null, 0.75]}'),
        ("tensor", b'{"outputs": []}'),
        ("constant", b"0.125\n0.75\n"),
    ],
)
def test_is_right_with_anything_else_is_false(name: str, answer: bytes) -> None:
    """A server that answers quickly and wrongly is not measured."""
    assert not FORMATS[name].is_right(answer, EXPECTED)
