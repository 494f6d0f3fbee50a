"""Channels whose records are parsed by several processes."""

import numpy as np
import pytest

from tests.unit.train.conftest import as_csv
from tests.unit.train.input.test_channel import Feeder, _rows, feeder  # noqa: F401
from train.input.parsing import parallel_parser


def test_several_processes_read_the_same(
    feeder: Feeder, records: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing processes yield the records of a single process."""
    monkeypatch.setattr(parallel_parser, "_ALONE_BYTES", 1)
    feeder.channel("train", *map(as_csv, np.array_split(records, 3)))
    channel = feeder.open()
    channel.n_processes = 2

    np.testing.assert_allclose(_rows(channel), records, rtol=1e-6)
