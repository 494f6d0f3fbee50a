import inspect
import re

from container import errors
from container.errors import ContainerError
from serve.http import statuses

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ContainerError)
]
# Raised while training or while a server starts, where there is no HTTP.
WITHOUT_A_CLIENT = {
    errors.SettingsError,
    errors.JobConfigError,
    errors.HyperparameterError,
    errors.ChannelError,
    errors.ScriptError,
    errors.TrainingError,
    errors.ModelLoadError,
    errors.PackageMissingError,
    errors.HostError,
}


def test_every_error_has_a_status() -> None:
    """A class is in the table itself, or is known never to reach a client under its own name."""
    assert set(CLASSES) - statuses._STATUSES.keys() - WITHOUT_A_CLIENT == set()


def test_user_errors_are_4xx_and_all_others_5xx() -> None:
    """The status says whose fault it is."""
    wrong = {
        kind.__name__: status
        for kind in CLASSES
        if (status := statuses.status_of(kind.__new__(kind))) // 100
        != (4 if issubclass(kind, errors.UserError) else 5)
    }
    assert wrong == {}


def test_every_error_has_its_own_code() -> None:
    """Programs tell errors apart by code."""
    codes = [kind.code for kind in CLASSES]

    assert len(set(codes)) == len(codes)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """A newcomer reads the docstring first: each class once, under its base, none that is gone."""
    drawn: dict[str, str] = {}
    branch: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 3
            branch[depth:] = [found[2]]
            assert found[2] not in drawn
            drawn[found[2]] = branch[depth - 1] if depth else "Exception"

    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in CLASSES if kind.__base__}
