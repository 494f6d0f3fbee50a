"""Warnings of records that are seldom what was meant."""

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from container.codecs.records import Batch, Columns
from tests.unit.container.algorithms.xgboost.training.test_shards import Host, on_hosts
from tests.unit.train.conftest import as_csv, as_parquet, as_recordio
from tests.unit.train.input.test_channel import Feeder, feeder  # noqa: F401 - a fixture
from train.input.parsing import chunks
from train.input.sanity import Sanity

EMPTY, HEADER, INDEX = (
    "column_without_values",
    "first_line_may_be_a_header",
    "label_may_be_an_index",
)
RANDOM = np.random.default_rng(0).random((2000, 4)).round(3)


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 5000)


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    known = (EMPTY, HEADER, INDEX)
    return [record.message for record in caplog.records if record.message in known]


def with_index(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([np.arange(len(rows)), rows])


@pytest.mark.parametrize("is_split", [False, True])
def test_delimiter_at_the_end_of_every_line_is_a_column_without_values(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    *,
    is_split: bool,
) -> None:
    text = as_csv(RANDOM).replace(b"\n", b",\n")
    middle = text.index(b"\n", len(text) // 2) + 1
    feeder.channel("train", *([text[:middle], text[middle:]] if is_split else [text]))

    list(feeder.open().batches())

    assert warnings(caplog) == [EMPTY]
    facts = next(record for record in caplog.records if record.message == EMPTY)
    assert vars(facts)["columns"] == [5]
    assert "leave it out, and so a delimiter at the end of every line" in vars(facts)["reason"]


@pytest.mark.parametrize(("group_column", "number"), [(1, 4), (2, 4), (3, 3)])
def test_column_without_values_is_counted_with_that_of_the_query_ids(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    group_column: int,
    number: int,
) -> None:
    """The number is that of the column in the file."""
    lines = [[f"0.{row}", "7", "7", "7"] for row in range(20)]
    for line in lines:
        line[number - 1] = ""
    feeder.channel("train", "".join(",".join(line) + "\n" for line in lines).encode())

    list(feeder.open(columns=Columns(label_size=1, group_column=group_column)).batches())

    facts = next(record for record in caplog.records if record.message == EMPTY)
    assert vars(facts)["columns"] == [number]


def test_column_of_nulls_is_named(caplog: pytest.LogCaptureFixture, feeder: Feeder) -> None:  # noqa: F811
    rows = RANDOM.copy()
    rows[:, 2] = np.nan
    feeder.channel("train", as_parquet(rows, "yabc"))

    list(feeder.open().batches())

    facts = next(record for record in caplog.records if record.message == EMPTY)
    assert vars(facts)["columns"] == ["b"]


@pytest.mark.parametrize("header", ["0,1,2,3", "1,2,3,4,5", "2019,2020,2021,2022,2023"])
def test_first_line_that_counts_may_be_a_header(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    header: str,
) -> None:
    rows = np.column_stack([RANDOM, RANDOM[:, :1]])[:, : header.count(",") + 1]
    file = header.encode() + b"\n" + as_csv(rows)
    feeder.channel("train", file)

    list(feeder.open().batches())

    assert warnings(caplog) == [HEADER]
    facts = next(record for record in caplog.records if record.message == HEADER)
    assert "header=False, index=False" in vars(facts)["reason"]


@pytest.mark.parametrize("start", [0, 1, 5000])
@pytest.mark.parametrize("write", [as_csv, as_parquet, lambda rows: as_recordio(rows.tolist())])
def test_label_that_counts_may_be_an_index(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    write: object,
    start: int,
) -> None:
    assert callable(write)
    feeder.channel("train", write(with_index(RANDOM[:300]) + np.array([start, 0, 0, 0, 0])))

    list(feeder.open().batches())

    assert warnings(caplog) == [INDEX]


def test_index_may_begin_anew_in_each_file(
    caplog: pytest.LogCaptureFixture,
    feeder: Feeder,  # noqa: F811
) -> None:
    """In a FIFO nothing tells where a file of text ends."""
    feeder.channel("train", *[as_csv(with_index(RANDOM[:100]))] * 2)

    list(feeder.open().batches())

    assert warnings(caplog) == ([] if feeder.mode == "Pipe" else [INDEX])


@pytest.mark.parametrize(
    "rows",
    [
        np.column_stack([np.arange(200) % 2, RANDOM[:200]]),  # classes in turn
        np.column_stack([np.arange(200) % 10, RANDOM[:200]]),
        np.column_stack([np.sort(np.arange(200) % 10), RANDOM[:200]]),
        np.column_stack([np.arange(0, 400, 2), RANDOM[:200]]),  # by 2
        np.column_stack([np.zeros(20), np.where(np.eye(20) == 1, 1.0, np.nan)]),  # gaps
        np.arange(20)[:, None] % 3 + np.arange(6),  # every line counts
        [[0, 1, 2, 3]] + [[1, 5, 7, 2]] * 8,  # few records
        with_index(RANDOM[:9]),
        np.column_stack([RANDOM[:9], np.full(9, np.nan)]),
        [[0, 1]] + [[1, 0.5]] * 50,  # two columns
        [[1, 2, 3]] + [[1, 5, 7]] * 50,
    ],
)
def test_legal_records_are_no_cause_of_alarm(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    rows: Sequence[Sequence[float]],
) -> None:
    feeder.channel("train", as_csv(np.asarray(rows, dtype=float)))

    list(feeder.open().batches())

    assert warnings(caplog) == []


def test_small_files_of_two_classes_are_no_cause_of_alarm(
    feeder: Feeder,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The labels of each count, but in none for long."""
    feeder.channel("train", *[b"0,0.5\n1,0.25\n"] * 30)

    list(feeder.open().batches())

    assert warnings(caplog) == []


def test_labels_beyond_the_whole_numbers_of_32_bits_are_an_index_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sanity = Sanity()
    for start in range(2**24 - 2000, 2**24 + 4000, 1000):
        labels = np.arange(start, start + 1000).astype(np.float32)
        batch = Batch(np.zeros((1000, 1), dtype=np.float32), labels)
        sanity.add(batch, "file", is_first=start == 2**24 - 2000, is_csv=True)

    on_hosts(1, lambda host: sanity.warn("train", str, host))

    assert warnings(caplog) == [INDEX]


@pytest.mark.parametrize("has_value_elsewhere", [False, True])
def test_all_hosts_count_and_the_first_one_warns(
    caplog: pytest.LogCaptureFixture, *, has_value_elsewhere: bool
) -> None:
    """A column without values in one shard may have some in another; a host may have no records."""

    def read_shard(host: Host) -> None:
        sanity = Sanity()
        features = np.full((20, 2), np.nan, dtype=np.float32)
        features[:, 0] = 1
        if has_value_elsewhere and host.rank == 1:
            features[7, 1] = 3
        if host.rank != 2:
            batch = Batch(features, np.zeros(20, dtype=np.float32))
            sanity.add(batch, "file", is_first=True, is_csv=True)
        sanity.warn("train", str, host)

    on_hosts(3, read_shard)

    assert warnings(caplog) == ([] if has_value_elsewhere else [EMPTY])
