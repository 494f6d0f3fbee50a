"""The search for an order finds the answers that no order gives."""

import pytest

from tests.ledger import Call, Ledger

LOADED = Call("load", "a", 200, 0, 1)


@pytest.mark.parametrize(
    ("calls", "is_right"),
    [
        ([LOADED, Call("invoke", "a", 200, 2, 3)], True),
        ([LOADED, Call("invoke", "b", 200, 2, 3)], False),
        ([LOADED, Call("invoke", None, 404, 2, 3)], False),
        ([LOADED, Call("invoke", None, 404, 0.5, 3)], True),
        ([LOADED, Call("load", "b", 409, 2, 3)], True),
        ([LOADED, Call("load", "b", 200, 0.5, 3)], False),
        ([Call("load", "a", 400, 0, 2), Call("load", "b", 409, 1, 3)], True),
        ([Call("load", "a", 400, 0, 2), Call("load", "b", 409, 3, 4)], False),
        ([Call("load", "a", 404, 0, 9), Call("unload", None, 200, 1, 2)], False),
        ([LOADED, Call("unload", None, 200, 2, 3), Call("unload", None, 200, 2, 3)], False),
        ([LOADED, Call("unload", None, 200, 2, 4), Call("unload", None, 404, 3, 5)], True),
        ([LOADED, Call("unload", None, 200, 2, 4), Call("load", "b", 200, 3, 5)], True),
        ([LOADED, Call("unload", None, 404, 2, 3)], False),
    ],
)
def test_order_of_calls(calls: list[Call], is_right: bool) -> None:
    """C-108: the calls of a ledger, with their times."""
    assert (Ledger(calls).explain() is not None) is is_right
