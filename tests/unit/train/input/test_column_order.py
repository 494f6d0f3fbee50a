"""The columns of a job on several hosts, which read different files."""

import pytest

from container.errors import MalformedPayloadError
from tests.unit.container.algorithms.xgboost.training.test_shards import Host, on_hosts
from train.input.column_order import ColumnOrder

OWN = [None, ["y", "a", "b"], ["b", "a", "y"]]


def test_all_hosts_take_the_order_of_the_first_that_has_one() -> None:
    """Hosts with different orders would take different columns for the label (C-103)."""

    def places(host: Host) -> object:
        order = ColumnOrder(host)
        own = OWN[host.rank]
        order.agree(own)
        return order.names, own and order.places(own)

    names = ("y", "a", "b")
    assert on_hosts(3, places) == [(names, None), (names, [0, 1, 2]), (names, [2, 1, 0])]


def test_difference_names_the_host_whose_columns_count() -> None:
    """And lists what is missing and what is unknown."""

    def message(host: Host) -> str:
        order = ColumnOrder(host)
        own = ["y", "a", "b"] if host.rank == 0 else ["y", "a", "c"]
        order.agree(own)
        try:
            order.places(own)
        except MalformedPayloadError as error:
            return error.message
        return ""

    assert on_hosts(2, message) == [
        "",
        "the columns are not those of the first Parquet file of host 'algo-1': missing: 'b'; "
        "unknown: 'c'; give all files columns of the same names",
    ]


@pytest.mark.parametrize("second", [["y", "a"], None])
def test_channels_after_the_first_table_exchange_nothing(second: list[str] | None) -> None:
    """Only the first channel with names is gathered; later ones wait for no other host."""
    told: list[object] = []

    def agree(host: Host) -> object:
        order = ColumnOrder(host)
        order.agree(None)  # text, on all hosts
        order.agree(["y", "a"] if host.rank == 0 else None)
        told.append(order.names)
        if host.rank == 0:
            order.agree(second)
        return order.names

    assert on_hosts(2, agree) == [("y", "a"), ("y", "a")]
