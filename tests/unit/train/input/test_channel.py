"""Channels in every mode and format: the same records, and errors that name their place."""

import bz2
import contextlib
import gzip
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from container.algorithms import registry
from container.codecs import parquet_codec
from container.codecs.records import Batch, Columns, SparseRows
from container.errors import ChannelError
from container.opt_ml import OptMl
from tests.unit.container.algorithms.xgboost.training.test_shards import Host, on_hosts
from tests.unit.train.conftest import Tree, as_csv, as_libsvm, as_parquet, as_recordio
from train.distributed.cluster import OneHost
from train.input import open_channels, record_store
from train.input.channel import StoredChannel
from train.input.libsvm_base import LibsvmBase
from train.input.parsing import chunks
from train.input.scratch import Scratch
from train.input.sources import FileSource, Stream

LABELLED = Columns(label_size=1)


FORMATS: Mapping[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "csv": ("text/csv", as_csv),
    "libsvm": ("text/libsvm", as_libsvm),
    "recordio": ("application/x-recordio-protobuf", lambda rows: as_recordio(rows.tolist())),
    "parquet": ("application/x-parquet", as_parquet),
}
MODES = ["File", "FastFile", "Pipe"]


class Feeder:
    """Plays the platform: files before the start, or FIFOs that are fed meanwhile."""

    def __init__(self, tree: Tree, mode: str) -> None:
        self.tree = tree
        self.mode = mode
        self.config: dict[str, dict[str, str]] = {}
        self.broken_pipes: list[Path] = []

    def channel(self, name: str, *files: bytes, **config: str) -> None:
        """Lay out a channel; in Pipe mode each epoch gives all files, one after the other."""
        self.config[name] = {"TrainingInputMode": self.mode} | config
        self.tree.configure("inputdataconfig.json", self.config)
        if self.mode != "Pipe":
            self.tree.channel(name, {f"part-{i}": file for i, file in enumerate(files)})
            return
        self.tree.channel(".", {})
        for epoch in range(3):
            fifo = self.tree.root / "input" / "data" / f"{name}_{epoch}"
            os.mkfifo(fifo)
            threading.Thread(target=self._feed, args=(fifo, files), daemon=True).start()

    def _feed(self, fifo: Path, files: tuple[bytes, ...]) -> None:
        try:
            with fifo.open("wb") as stream:
                for file in files:
                    stream.write(file)
        except BrokenPipeError:
            self.broken_pipes.append(fifo)

    def open(self, name: str = "train", columns: Columns = LABELLED) -> StoredChannel:
        return self.open_all(columns)[name]

    def open_all(self, columns: Columns = LABELLED) -> dict[str, StoredChannel]:
        opt_ml = OptMl(self.tree.root)
        scratch = Scratch(self.tree.root)
        return open_channels.open_channels(
            opt_ml, registry.get("xgboost"), columns, scratch, self._cluster(opt_ml), LibsvmBase()
        )

    def _cluster(self, opt_ml: OptMl) -> OneHost:
        """The hosts of resourceconfig.json; the others hold nothing."""
        cluster = OneHost("algo-1")
        cluster.hosts = opt_ml.resource_config().hosts
        return cluster


@pytest.fixture(params=MODES)
def feeder(request: pytest.FixtureRequest, tree: Tree) -> Feeder:
    return Feeder(tree, request.param)


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces everywhere, so that borders lie everywhere."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 5000)
    monkeypatch.setattr(record_store, "_JOINED_BYTES", 20_000)


def _rows(channel: StoredChannel, width: int = 30) -> np.ndarray:
    """All records of a channel, label first; a cell that is missing is NaN."""
    return np.concatenate([_dense(batch, width) for batch in channel.batches()])


def _dense(batch: Batch, width: int) -> np.ndarray:
    features = batch.features
    if isinstance(features, SparseRows):
        dense = np.full((batch.n_rows, width), np.nan, dtype=np.float32)
        row_numbers = np.repeat(np.arange(batch.n_rows), np.diff(features.offsets))
        dense[row_numbers, features.columns] = features.values
        features = dense
    assert batch.labels is not None
    return np.column_stack([batch.labels, features])


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_every_mode_reads_every_format(
    feeder: Feeder, records: np.ndarray, name: str, *, is_declared: bool
) -> None:
    """The same records in the same order, as often as they are asked for (C-016, C-017, C-019)."""
    content_type, write = FORMATS[name]
    config = {"ContentType": content_type} if is_declared else {}
    feeder.channel("train", *map(write, np.array_split(records, 3)), **config)

    channel = feeder.open()

    np.testing.assert_allclose(_rows(channel), records, rtol=1e-6)
    np.testing.assert_array_equal(_rows(channel), _rows(channel))


@pytest.mark.parametrize("formats", [("csv", "libsvm"), ("parquet", "csv"), ("libsvm", "recordio")])
def test_hosts_that_recognise_different_formats_are_named(
    tmp_path: Path, records: np.ndarray, formats: tuple[str, str]
) -> None:
    """A host without records takes part; the error is the same on all hosts (C-027)."""

    def read(host: Host) -> object:
        tree = Tree(tmp_path / str(host.rank))
        tree.configure("inputdataconfig.json", {"train": {"S3DistributionType": "ShardedByS3Key"}})
        if host.rank:
            tree.channel("train", {"part": FORMATS[formats[host.rank - 1]][1](records)})
        channels = open_channels.open_channels(
            OptMl(tree.root),
            registry.get("xgboost"),
            LABELLED,
            Scratch(tree.root),
            host,
            LibsvmBase(host.gather),
        )
        return list(channels["train"].batches())

    errors = on_hosts(3, read)

    first, second = (FORMATS[name][0] for name in formats)
    assert {str(error) for error in errors} == {
        f"channel 'train' holds {first} on host 'algo-2' and {second} on host 'algo-3'; give all "
        "hosts files of one format, and set ContentType if one is taken for another"
    }


@pytest.mark.parametrize("name", FORMATS)
def test_gzip_is_decompressed(feeder: Feeder, records: np.ndarray, name: str) -> None:
    """Parts compressed one by one, by their content and whatever they are called."""
    content_type, write = FORMATS[name]
    parts = [gzip.compress(write(part)) for part in np.array_split(records, 3)]
    feeder.channel("train", *parts, ContentType=content_type)

    np.testing.assert_allclose(_rows(feeder.open()), records, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"0\n1 0:5 3:2\n", "text/libsvm"),
        (b"\n0:2\r\n-1e3 \n1 0:5\n", "text/libsvm"),
        (b"1:0.5 7:1\n", "text/libsvm"),
        (b"1\n0,5\n", "text/csv"),
        (b"1\n0\n", "text/csv"),
        (b"1 0:5\n1,2\n", "text/libsvm"),
        (b"1 1: 2:3\n", "text/libsvm"),
        (b"1 1:\n", "text/libsvm"),
        (b"y\n1 0:5\n", "text/csv"),
        (b"# Generated by a tool\n#\n1 0:5\n", "text/libsvm"),
        (b" # a,b\n1,2\n", "text/csv"),
        (b"\xef\xbb\xbf1 1:5\n", "text/libsvm"),
    ],
)
def test_first_line_that_tells_is_the_format(tree: Tree, content: bytes, content_type: str) -> None:
    """A record without features might be of either."""
    path = tree.channel("train", {"a": content}) / "a"

    with contextlib.closing(Stream(FileSource(path, path.parent))) as stream:
        assert stream.content_type() == content_type


def test_booleans_of_a_table_are_numbers(feeder: Feeder) -> None:
    """As pandas writes them, label included, behind a byte order mark."""
    feeder.channel("train", b"\xef\xbb\xbfTrue,0.5,False\nFalse,,true\n")

    np.testing.assert_array_equal(_rows(feeder.open()), [[1, 0.5, 0], [0, np.nan, 1]])


def test_records_beyond_the_memory_share_go_to_disk(tree: Tree, records: np.ndarray) -> None:
    """The same records come back from there."""
    feeder = Feeder(tree, "File")
    feeder.channel("train", as_csv(records))
    channel = feeder.open()
    channel.scratch = Scratch(tree.root, memory_bytes=100_000)

    first = _rows(channel)

    assert channel._store is not None
    assert (channel._store.memory_bytes, channel._store.file_bytes > 0) == (0, True)
    np.testing.assert_array_equal(_rows(channel), first)
    np.testing.assert_allclose(first, records, rtol=1e-6)


def test_weights_are_read_in_every_mode(feeder: Feeder, records: np.ndarray) -> None:
    """csv_weights=1: column 1 is a weight."""
    weights = np.linspace(0, 2, len(records))
    rows = np.column_stack([records[:, 0], weights, records[:, 1:]])
    feeder.channel("train", as_csv(rows))

    batches = list(feeder.open(columns=Columns(1, has_weight=True)).batches())

    found = np.concatenate([batch.weights for batch in batches if batch.weights is not None])
    np.testing.assert_allclose(found, weights, rtol=1e-6)
    assert {batch.n_features for batch in batches} == {30}


def test_pipe_closed_early_is_followed_by_the_next_epoch(tree: Tree, records: np.ndarray) -> None:
    """A reading that is broken off closes its FIFO; the next one takes the next (C-019, C-020)."""
    feeder = Feeder(tree, "Pipe")
    feeder.channel("train", as_csv(np.tile(records, (20, 1))), ContentType="text/csv")
    channel = feeder.open()

    reading = channel.batches()
    next(reading)
    reading.close()
    rows = _rows(channel)

    assert len(rows) == 20 * len(records)
    assert [fifo.name for fifo in feeder.broken_pipes] == ["train_0"]


def test_pipes_are_read_one_after_the_other(tree: Tree, records: np.ndarray) -> None:
    """A platform that fills one FIFO after the other is not made to wait for ever."""
    feeder = Feeder(tree, "Pipe")
    config = {"TrainingInputMode": "Pipe"}
    tree.configure("inputdataconfig.json", {"train": config, "validation": config})
    tree.channel(".", {})
    directory = tree.root / "input" / "data"

    def feed() -> None:
        for name in ("train_0", "validation_0"):
            os.mkfifo(directory / name)
            (directory / name).write_bytes(as_csv(records))

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    channels = open_channels.open_channels(
        OptMl(tree.root),
        registry.get("xgboost"),
        LABELLED,
        Scratch(tree.root),
        OneHost("algo-1"),
        LibsvmBase(),
    )

    assert len(_rows(channels["train"])) == len(_rows(channels["validation"])) == len(records)
    thread.join()
    assert feeder.broken_pipes == []


def _place(feeder: Feeder) -> str:
    return "FIFO 'train_0'" if feeder.mode == "Pipe" else "file 'part-0'"


BROKEN_PARQUET = [
    Path(__file__).parents[4] / f"tests/corpus/parquet/invalid/{name}.body"
    for name in (
        "required-column-with-histograms-of-an-optional-one",
        "row-group-with-fewer-columns-than-the-schema",
    )
]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2\n" * 5000 + b"1,x\n" + b"1,2\n", "line 5001, column 2: the cell is text"),
        (b"1,2\n" * 5000 + b"1,2,3\n", "line 5001: "),
        (b"1,2\n" * 1250 + b"1,2,3\n" * 1000, "line 1251: the line has 3 columns where 2 are exp"),
        (b"1,2\n" * 5000 + b",2\n", "line 5001: the label is missing"),
        (b"y,x\n1,2\n", "line 1: the line is a header"),
        (b"1,2\n" * 5000 + b"1,None\n", "line 5001, column 2: the cell is a marker for a missing"),
        (b"1,2\n" * 5000 + b"1,2,\n", "; it ends in a separator: leave that out"),
        (b"1,5;2,5\n", "line 1: the line has semicolons between its cells and decimal commas"),
        (bz2.compress(b"1,2\n"), "this is a bzip2 file, not text/csv; decompress it"),
        ("1,2\n".encode("utf-16"), "this is UTF-16 text, not text/csv; save it as UTF-8"),
        (b'{"features": [1]}\n', "this looks like JSON, not text/csv"),
        (b"1 0:1\n" * 5000 + b"1 0:x\n", "line 5001, column 2: the value of token 2, for"),
        (as_recordio([[1, 2]] * 900)[:-8] + b"junkjunk", "record 900: "),
        (as_recordio([[1, 2]] * 900 + [[np.nan, 2]]), "record 901: the label is missing"),
        (as_recordio([[1, 2]] * 900 + [[1, np.inf]]), "record 901, column 1: the number does not"),
        (as_recordio([[1, 2]] * 900 + [[1, 2, 3]]), "record 901: "),
        (as_parquet(np.array([[1, 2]] * 900 + [[np.nan, 2]])), "record 901: the label is missing"),
        (
            as_parquet(np.array([[1, 2]] * 900 + [[1, np.inf]])),
            "record 901: column 'b': the number",
        ),
        (b"PAR1 but not a Parquet file", "the Parquet file cannot be read"),
        (BROKEN_PARQUET[0].read_bytes(), "the Parquet file cannot be read"),
        (BROKEN_PARQUET[1].read_bytes(), "row group 1 has 1 column and the schema has 2"),
        (gzip.compress(b"1,2\n" * 9999, mtime=0)[:-20], "cannot be read: "),
    ],
)
def test_errors_name_channel_source_and_position(
    feeder: Feeder, content: bytes, message: str
) -> None:
    """Names them in every mode, whatever the number of chunks before."""
    feeder.channel("train", content)
    place = _place(feeder)

    with pytest.raises(ChannelError) as caught:
        list(feeder.open().batches())

    assert caught.value.message.startswith(f"channel 'train', {place}: ")
    assert message.format(place=place) in caught.value.message


def test_text_that_is_declared_as_parquet_is_named(feeder: Feeder) -> None:
    """A channel whose ContentType is wrong."""
    feeder.channel("train", b"1,2\n0,3\n", ContentType="application/x-parquet")

    with pytest.raises(ChannelError, match="this looks like CSV, not application/x-parquet"):
        list(feeder.open().batches())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (as_csv, "line 1: the line has 2 columns where 3 are expected"),
        (lambda rows: as_recordio(rows.tolist()), "record 1: the record has 1 value where 2 "),
        (
            as_parquet,
            "the columns are not those of the first Parquet file of the job: missing: 'c'",
        ),
    ],
)
def test_width_may_not_change_between_parts(
    tree: Tree, write: Callable[[np.ndarray], bytes], message: str
) -> None:
    """The message names the file that is at fault."""
    feeder = Feeder(tree, "File")
    feeder.channel("train", write(np.ones((2, 3))), write(np.ones((2, 2))))

    with pytest.raises(ChannelError, match=f"channel 'train', file 'part-1': {message}"):
        list(feeder.open().batches())


@pytest.mark.parametrize("other", ["train", "validation"])
def test_parquet_columns_are_those_of_the_first_file_by_name(feeder: Feeder, other: str) -> None:
    """In another order the features would be swapped silently."""
    first, second = np.arange(6.0).reshape(2, 3), np.arange(10.0, 16).reshape(2, 3)
    files = [as_parquet(first, "yab"), as_parquet(second[:, [2, 0, 1]], "bya")]
    feeder.channel("train", *(files if other == "train" else files[:1]))
    if other != "train":
        feeder.channel(other, files[1])

    channels = feeder.open_all()
    batches = [*channels["train"].batches()]
    if other != "train":
        batches += channels[other].batches()

    found = np.concatenate([np.asarray(batch.features) for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    np.testing.assert_array_equal(np.column_stack([labels, found]), np.vstack([first, second]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("yac", "missing: 'b'; unknown: 'c'; give all files"),
        ("xab", "missing: 'y'; unknown: 'x'; give all files"),
        ("YAB", "missing: 'y', 'a', 'b'; unknown: 'Y', 'A', 'B'; give all files"),
    ],
)
def test_parquet_columns_of_other_names_are_refused(
    feeder: Feeder, names: str, message: str
) -> None:
    """The message lists the differences (C-103)."""
    rows = np.ones((2, 3))
    feeder.channel("train", as_parquet(rows, "yab"), ContentType="parquet")
    feeder.channel("validation", as_parquet(rows, names), ContentType="parquet")
    channels = feeder.open_all()
    list(channels["train"].batches())

    with pytest.raises(ChannelError) as caught:
        list(channels["validation"].batches())

    assert caught.value.message.startswith("channel 'validation', ")
    assert message in caught.value.message
    assert "those of the first Parquet file of the job" in caught.value.message


def test_parquet_columns_of_one_name_are_refused(feeder: Feeder) -> None:
    """They cannot be told apart in the next file, nor in a request."""
    feeder.channel("train", as_parquet(np.ones((2, 3)), "yaa"))

    with pytest.raises(ChannelError, match="two columns are called 'a'"):
        list(feeder.open().batches())


def test_features_have_the_names_of_parquet_columns(feeder: Feeder) -> None:
    """Once a record was read; the label is no feature."""
    feeder.channel("train", as_parquet(np.ones((2, 3)), "yab"))
    channel = feeder.open()

    list(channel.batches())

    assert channel.feature_names == ("a", "b")


def test_features_of_text_have_no_names(feeder: Feeder) -> None:
    """Those of another channel say nothing of them."""
    feeder.channel("train", as_csv(np.ones((2, 3))))
    feeder.channel("validation", as_parquet(np.ones((2, 3)), "yab"))
    channels = feeder.open_all()

    for channel in channels.values():
        list(channel.batches())

    assert channels["train"].feature_names is None
    assert channels["validation"].feature_names == ("a", "b")


@pytest.mark.parametrize("is_sparse_first", [False, True])
def test_form_may_not_change_between_parts(tree: Tree, *, is_sparse_first: bool) -> None:
    """The zeros of dense records would silently become missing values."""
    rows = [[1, 2, 0], [0, 0, 3]]
    feeder = Feeder(tree, "File")
    feeder.channel(
        "train",
        as_recordio(rows, is_sparse=is_sparse_first),
        as_recordio(rows, is_sparse=not is_sparse_first),
    )
    first, second = ("sparse", "dense") if is_sparse_first else ("dense", "sparse")

    with pytest.raises(ChannelError) as caught:
        list(feeder.open().batches())

    assert caught.value.message.startswith(
        f"channel 'train', file 'part-1': record 1: {second} where file 'part-0' is {first}"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n", gzip.compress(b"", mtime=0)])
def test_channel_without_records_is_an_error(feeder: Feeder, content: bytes) -> None:
    """Fails instead of training a model of nothing."""
    feeder.channel("train", content)

    with pytest.raises(ChannelError, match=r"holds no (data|records)"):
        list(feeder.open().batches())


def test_empty_shard_is_no_error(feeder: Feeder) -> None:
    """Of several hosts one may get no objects (C-025)."""
    hosts = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    feeder.tree.configure("resourceconfig.json", hosts)
    feeder.channel("train", b"", S3DistributionType="ShardedByS3Key")

    assert list(feeder.open().batches()) == []


@pytest.mark.parametrize(
    ("hosts", "distribution"),
    [(["algo-1"], "ShardedByS3Key"), (["algo-1", "algo-2"], "FullyReplicated")],
)
def test_empty_channel_is_an_error_where_nobody_has_more(
    feeder: Feeder, hosts: list[str], distribution: str
) -> None:
    """C-025 is for shards only."""
    feeder.tree.configure("resourceconfig.json", {"current_host": "algo-1", "hosts": hosts})
    feeder.channel("train", b"", S3DistributionType=distribution)

    with pytest.raises(ChannelError, match="holds no"):
        list(feeder.open().batches())


def test_shard_without_a_directory_is_empty(tree: Tree) -> None:
    """A host without objects may lack the directory (C-025)."""
    hosts = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    tree.configure("resourceconfig.json", hosts)
    config = {"TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key"}
    tree.configure("inputdataconfig.json", {"train": config})

    assert list(Feeder(tree, "File").open().batches()) == []


def test_wrapped_records_are_refused(tree: Tree) -> None:
    """RecordWrapperType=RecordIO is said to be unsupported, not read as garbage (C-021)."""
    feeder = Feeder(tree, "Pipe")
    feeder.channel("train", b"1,2\n", RecordWrapperType="RecordIO")

    with pytest.raises(ChannelError, match="RecordWrapperType 'RecordIO' is not supported"):
        feeder.open()


@pytest.mark.parametrize("is_declared", [True, False])
def test_parquet_without_its_library_says_so(
    feeder: Feeder, monkeypatch: pytest.MonkeyPatch, *, is_declared: bool
) -> None:
    """The slim image has no pyarrow."""
    monkeypatch.setattr(parquet_codec, "is_available", lambda: False)
    config = {"ContentType": "application/vnd.apache.parquet"} if is_declared else {}
    feeder.channel("train", as_parquet(np.ones((2, 2))), **config)

    with pytest.raises(ChannelError, match="needs pyarrow, which the slim image does not have"):
        list(feeder.open().batches())


def test_log_says_what_was_read(
    feeder: Feeder,
    records: np.ndarray,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The format, and while it is read rows, speed and memory."""
    monkeypatch.setattr("train.input.progress._LOG_SECONDS", 0)
    feeder.channel("train", as_csv(records))
    n_bytes = len(as_csv(records))

    with caplog.at_level(logging.INFO):
        _rows(feeder.open())

    events = {record.message: vars(record) for record in caplog.records}
    assert events["channel_opened"]["input_mode"] == feeder.mode
    assert events["content_type_recognised"]["content_type"] == "text/csv"
    assert 0 < events["channel_loading"]["n_rows"] <= len(records)
    loaded = events["channel_loaded"]
    assert loaded["n_rows"] == len(records)
    assert loaded["mb"] == round(n_bytes / 1e6, 1)
    assert loaded["mb_per_second"] > 0
    assert loaded["process_memory_mb"] > 10
    assert loaded["kept_in_memory_mb"] == round(len(records) * 31 * 4 / 1e6, 1)
    json.dumps({name: str(value) for name, value in loaded.items()})
