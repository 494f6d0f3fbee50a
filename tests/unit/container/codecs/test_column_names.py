"""Parquet columns matched by name with the features of a model."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from container.codecs import column_names, parquet_codec
from container.codecs.records import Columns
from container.errors import MalformedPayloadError

MODEL = Columns(n_features=2, feature_names=("age", "income"))
LABELLED = Columns(label_size=1, n_features=2, feature_names=("age", "income"))


def parquet(columns: Mapping[str, Any]) -> bytes:
    return named(list(columns), list(columns.values()))


def named(names: Sequence[str], columns: Sequence[Any]) -> bytes:
    """A file whose names may repeat."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], names), file)
    return file.getvalue()


def rows(body: bytes, columns: Columns = MODEL) -> list[list[float]]:
    found: list[list[float]] = np.asarray(parquet_codec.decode(body, columns).features).tolist()
    return found


def refusal(body: bytes, columns: Columns = MODEL) -> str:
    with pytest.raises(MalformedPayloadError) as caught:
        parquet_codec.decode(body, columns)
    return caught.value.message


def test_columns_are_put_in_the_order_of_the_features() -> None:
    """C-103: the other way round they would be the other row's features."""
    assert rows(parquet({"income": [1.0, 2.0], "age": [30, 40]})) == [[30, 1], [40, 2]]
    assert rows(parquet({"age": [30, 40], "income": [1.0, 2.0]})) == [[30, 1], [40, 2]]


def test_label_is_the_column_that_is_no_feature() -> None:
    """Wherever it stands in the file."""
    batch = parquet_codec.decode(parquet({"income": [1.0], "age": [30], "bought": [1]}), LABELLED)

    assert np.asarray(batch.features).tolist() == [[30, 1]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["age", "salary"], "missing: 'income'; unknown: 'salary'; send the columns"),
        (["age"], "missing: 'income'; send the columns"),
        (["a", "b", "c"], "missing: 'age', 'income'; unknown: 'a', 'b', 'c';"),
        (["Age", "income"], "missing: 'age'; unknown: 'Age';"),
        (["f0", "f1"], "missing: 'age', 'income'; unknown: 'f0', 'f1';"),
        (["bought", "age", "income"], "unknown: 'bought'; leave it out, or, if it is the label"),
        (["age", "income", "x", "y"], "unknown: 'x', 'y'; send the columns"),
        (["age", "age"], "two columns are called 'age'; give each"),
    ],
)
def test_difference_is_listed(names: list[str], message: str) -> None:
    """C-103: with both directions of it, and what to do."""
    assert message in refusal(named(names, [[1.0]] * len(names)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["age", "income"], "label_size=1 announces a label column, and all columns are features"),
        (["y", "age", "x"], "missing: 'income'; unknown: 'y', 'x'; only the label column may have"),
        (["y", "age", "income", "x"], "unknown: 'y', 'x'; only the label"),
    ],
)
def test_difference_beside_the_label_is_listed(names: list[str], message: str) -> None:
    """One more name than the model has is the label's, and no other."""
    assert message in refusal(named(names, [[1.0]] * len(names)), LABELLED)


def test_long_difference_is_cut() -> None:
    """A client may send thousands of columns, with names of any length."""
    names = [f"{'x' * 1000}{number}" for number in range(1000)]

    message = refusal(named(names, [[1.0]] * 1000))

    assert "and 990 more" in message
    assert len(message) < 1000


@pytest.mark.parametrize("names", [["0", "1"], ["1", "0"]])
def test_names_that_count_are_positions_where_the_model_has_others(names: list[str]) -> None:
    """As pandas writes a table without names; in another order they were given by somebody."""
    body = named(names, [[30.0], [1.0]])

    if names == ["0", "1"]:
        assert rows(body) == [[30, 1]]
    else:
        assert "unknown: '1', '0'" in refusal(body)


def test_names_that_count_are_names_where_the_model_has_the_same() -> None:
    """A model of a table without names, whose first column was the label."""
    model = Columns(n_features=2, feature_names=("1", "2"))

    assert rows(named(["2", "1"], [[5.0], [6.0]]), model) == [[6, 5]]
    assert rows(named(["0", "1"], [[5.0], [6.0]]), model) == [[5, 6]]
    assert "unknown: '0'; leave it out" in refusal(named(["0", "1", "2"], [[1.0]] * 3), model)


def test_width_counts_where_there_are_no_names() -> None:
    """By position a record must be as wide as the model."""
    assert "the records have 3 columns where 2 are" in refusal(named([*"012"], [[1.0]] * 3))


def test_model_without_names_takes_columns_by_position() -> None:
    """Whatever they are called."""
    assert rows(parquet({"b": [1.0], "a": [2.0]}), Columns(n_features=2)) == [[1, 2]]


@pytest.mark.parametrize("columns", [MODEL, Columns(n_features=2)])
def test_index_of_pandas_without_its_metadata_is_no_feature(columns: Columns) -> None:
    """A tool that rewrites the file keeps the column and drops what says that it is an index."""
    body = parquet({"age": [30.0], "income": [1.0], "__index_level_0__": ["row 7"]})

    assert rows(body, columns) == [[30, 1]]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([0], pa.timestamp("ms")), "timestamp[ms]"),
        (pa.array([0], pa.date32()), "date32[day]"),
        (pa.array([0], pa.duration("s")), "duration[s]"),
        (pa.array(["x"]), "string"),
        (pa.array(["x"]).dictionary_encode(), "dictionary<values=string"),
        (pa.array([b"x"]), "binary"),
        (pa.array([[1.0]]), "list<"),
        (pa.array([{"a": 1}]), "struct<a: int64>"),
    ],
)
def test_column_of_another_type_is_named_with_its_type(column: Any, kind: str) -> None:
    """And what is accepted, and what to do."""
    message = refusal(named(["age", "signup"], [[1.0], column]), Columns())

    assert message.startswith(f"column 'signup' is {kind}")
    assert "accepted: integers, floats, decimals, booleans, or nothing but nulls" in message
    assert "convert it to numbers, or leave it out" in message


def test_columns_of_other_types_are_listed_up_to_three() -> None:
    message = refusal(named([*"abcde"], [["x"]] * 5), Columns())

    assert message.startswith("column 'a' is string, column 'b' is string, column 'c' is string ")
    assert "and 2 more;" in message


def test_infinity_is_located_by_record_and_name() -> None:
    """The number of a column would be that of another order."""
    body = parquet({"income": [1.0, np.inf], "age": [30.0, 40.0]})

    assert refusal(body) == "record 2: column 'income': the number does not fit a 32-bit float"


def test_tables_of_a_job_are_put_in_the_order_of_the_first() -> None:
    """All columns count there, the label's name included."""
    assert column_names.for_job(["b", "y", "a"], ["y", "a", "b"], "the first") == [1, 2, 0]
    with pytest.raises(MalformedPayloadError, match="not those of the first: missing: 'y'; unkno"):
        column_names.for_job(["b", "x", "a"], ["y", "a", "b"], "the first")
