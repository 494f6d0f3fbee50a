"""Bodies are valid before they are mutated, and any mutation of them can be sent."""

import contextlib
import gzip
import io
from collections import Counter
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fuzz import mutations, parquet, thrift
from benchmarks.fuzz.bodies import Body, valid_bodies
from container import codecs, content_types
from container.codecs import request_columns
from container.codecs.recordio import recordio_codec
from container.errors import MalformedPayloadError

N_FEATURES = 28


@pytest.fixture(scope="module")
def bodies() -> list[Body]:
    return valid_bodies(N_FEATURES)


def decode(body: Body) -> codecs.Batch:
    media = content_types.parse(body.content_type)
    data = gzip.decompress(body.data) if body.headers else body.data
    columns = request_columns.of_content_type(media.parameters, N_FEATURES)
    return codecs.decoder(media.name)(data, columns)


def random_of(seed: int) -> Random:
    return Random(seed)  # noqa: S311


def footer_of(data: bytes) -> thrift.Struct:
    length = int.from_bytes(data[-8:-4], "little")
    return thrift.read_struct(data[-8 - length :])[0]


def test_every_content_type_has_valid_bodies(bodies: list[Body]) -> None:
    """All that the server reads, plain and in gzip, each accepted by its codec."""
    assert {body.content_type.partition(";")[0] for body in bodies} == set(codecs.REQUEST_TYPES)
    for body in bodies:
        assert decode(body).n_rows > 0
    kinds = Counter(body.kind.partition("+")[0] for body in bodies if body.headers)
    assert kinds == Counter(body.kind for body in bodies if not body.headers)


def test_mutations_are_those_of_the_seed(bodies: list[Body]) -> None:
    """A run can be repeated, and another seed is another run."""

    def some(seed: int) -> list[Body]:
        random = random_of(seed)
        return [mutations.mutate(random.choice(bodies), bodies, random) for _ in range(100)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_any_body_can_be_mutated_again_and_again(bodies: list[Body]) -> None:
    """Mutations of mutations, of any kind, within the size of a body."""
    random = random_of(3)
    found = [body for body in bodies if not body.headers]
    for index in range(3000):
        body = mutations.mutate(found[index % len(found)], bodies, random)
        assert len(body.data) <= mutations.MAX_BYTES
        found[index % len(found)] = body


def test_mutations_are_refused_or_read(bodies: list[Body]) -> None:
    """A few keep their meaning; most do not; none is anything but a batch or a refusal."""
    random = random_of(4)
    plain = [body for body in bodies if not body.headers and body.kind != "parquet"]
    outcomes: Counter[str] = Counter()
    for _ in range(1000):
        body = mutations.mutate(random.choice(plain), plain, random)
        try:
            decode(body)
            outcomes["read"] += 1
        except MalformedPayloadError:
            outcomes["refused"] += 1
    assert outcomes["read"] > 20
    assert outcomes["refused"] > 200


def test_thrift_is_written_as_it_was_read(bodies: list[Body]) -> None:
    """The footers of all Parquet files, byte by byte."""
    for body in bodies:
        if body.kind == "parquet":
            length = int.from_bytes(body.data[-8:-4], "little")
            footer = body.data[-8 - length : -8]
            assert thrift.write_struct(thrift.read_struct(footer)[0]) == footer


@pytest.mark.parametrize("value", [0, 1, -1, 63, -64, 2**31, -(2**63), 2**63 - 1])
def test_thrift_writes_numbers_of_any_size(value: int) -> None:
    """Zigzag and varint, there and back; long field numbers as well."""
    struct = [
        thrift.Field(3, thrift.I64, value),
        thrift.Field(200, thrift.BINARY, b"text"),
        thrift.Field(201, thrift.LIST, thrift.List(thrift.I32, [value] * 20)),
        thrift.Field(202, thrift.TRUE, True),
    ]

    assert thrift.read_struct(thrift.write_struct(struct))[0] == struct


def test_parquet_mutations_reach_the_reader(bodies: list[Body]) -> None:
    """The footer is found and parsed each time; what it says is another thing."""
    random = random_of(5)
    files = [body.data for body in bodies if body.kind == "parquet"]
    n_changed = n_opened = 0
    for _ in range(100):
        data = random.choice(files)
        mutated = parquet.mutate(data, random)
        n_changed += mutated != data
        assert footer_of(mutated)
        try:
            pq.ParquetFile(io.BytesIO(mutated), pre_buffer=False)
            n_opened += 1
        except (OSError, ValueError):
            pass
    assert n_changed > 75
    assert n_opened > 30


def test_each_member_of_a_mutated_archive_can_be_unpacked(bodies: list[Body]) -> None:
    """Checksums are right, so that the arrays within are what is looked at."""
    random = random_of(6)
    archives = [body.data for body in bodies if body.kind == "npz"]
    for _ in range(100):
        mutated = mutations._inside_npz(random.choice(archives), random)
        names = np.load(io.BytesIO(mutated), allow_pickle=False).files
        assert isinstance(names, list)


def test_record_of_a_mutated_recordio_body_has_a_right_frame(bodies: list[Body]) -> None:
    """The message within is what is looked at."""
    random = random_of(7)
    data = next(body.data for body in bodies if body.kind == "recordio")
    for _ in range(100):
        mutated = mutations._inside_recordio(data, random)
        assert recordio_codec.whole_frames(mutated, len(mutated))[0] == len(mutated)
        with contextlib.suppress(MalformedPayloadError):
            decode(Body("recordio", content_types.RECORDIO, mutated))
