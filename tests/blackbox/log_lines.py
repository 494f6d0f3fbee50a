"""The log of a running program, whose last line may be only half there.

A worker logs an invocation after its answer, and several workers in any order: wait for a line,
and tell lines apart by what is in them.
"""

import json
from collections.abc import Callable
from typing import Any

from local_test.programs import RunningProgram
from tests.waiting import wait_for

Line = dict[str, Any]


def log_lines(program: RunningProgram) -> list[Line]:
    """The whole lines so far that are JSON objects."""
    whole = program.output().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def wait_for_lines(
    program: RunningProgram, is_meant: Callable[[Line], bool], n_lines: int = 1
) -> list[Line]:
    """Wait for so many lines that `is_meant` accepts; return all of them so far."""
    found: list[Line] = []

    def are_there() -> bool:
        found[:] = [line for line in log_lines(program) if is_meant(line)]
        return len(found) >= n_lines

    wait_for(are_there)
    return found
