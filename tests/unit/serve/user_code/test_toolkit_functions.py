"""Calling the functions of a script by their parameters."""

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

import pytest

from container.errors import ModelLoadError
from serve.user_code import toolkit_functions

DATA, MODEL, CONTEXT = object(), object(), object()


class Context:
    """A class named as the one of multi-model-server."""


def annotated(data: Any, model: Any, about: Context = None) -> Any:  # type: ignore[assignment]
    return data, model, about


def annotated_with_text(data: Any, model: Any, scale: int = 1, about: "mms.Context" = None) -> Any:  # type: ignore[name-defined,assignment] # noqa: F821
    return data, model, about


def annotated_as_optional(data: Any, model: Any, *, about: Context | None = None) -> Any:
    return data, model, about


def annotated_otherwise(data: Any, model: Any, threshold: float = 0.5) -> Any:
    return data, model, threshold


def _module(**functions: Any) -> ModuleType:
    module = ModuleType("script")
    vars(module).update(functions)
    return module


def _called(predict_fn: Any) -> Any:
    """Return the result of `predict_fn`, called as the server would."""
    found = toolkit_functions.find(_module(predict_fn=predict_fn), "code/inference.py").predict_fn
    assert found is not None
    return found(CONTEXT, DATA, MODEL)


class Predictor:
    """A callable object."""

    def __call__(self, data: object, model: object, context: object) -> object:
        return (data, model, context)

    def predict(self, data: object, model: object) -> object:
        return (data, model)

    @staticmethod
    def static(data: object, model: object, context: object) -> object:
        return (data, model, context)


def _logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def logged(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return logged


WITHOUT = (DATA, MODEL)
WITH = (DATA, MODEL, CONTEXT)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda data, model: (data, model), WITHOUT),
        (lambda a, b, /: (a, b), WITHOUT),
        (lambda *arguments: arguments, WITHOUT),
        (lambda data, *rest: (data, *rest), WITHOUT),
        (lambda data, model, **options: (data, model, *options), WITHOUT),
        (lambda data, model, *, verbose=False: (data, model), WITHOUT),
        (partial(lambda scale, data, model: (data, model), 2), WITHOUT),
        (partial(lambda data, model, scale: (data, model), scale=2), WITHOUT),
        (Predictor().predict, WITHOUT),
        (lambda data, model, context: (data, model, context), WITH),
        (lambda data, model, context=None: (data, model, context), WITH),
        (lambda data, model, anything: (data, model, anything), WITH),
        (lambda data, model=None, context=None: (data, model, context), WITH),
        (lambda data, model, context, more=1: (data, model, context), WITH),
        (lambda data, model, context, *more: (data, model, context, *more), WITH),
        (lambda data, model, *, context: (data, model, context), WITH),
        (lambda data, model, *, ctx=None: (data, model, ctx), WITH),
        (lambda data, model, ctx=None, /: (data, model, ctx), WITH),
        (lambda data, model, scale=1, context=None: (data, model, context), WITH),
        (lambda data, model, scale=1, *, context: (data, model, context), WITH),
        (annotated, WITH),
        (annotated_with_text, WITH),
        (annotated_as_optional, WITH),
        (annotated_otherwise, (DATA, MODEL, 0.5)),
        (lambda data, model, threshold=0.5: (data, model, threshold), (DATA, MODEL, 0.5)),
        (lambda data, model, a=1, context=2, /: (data, model, a, context), (DATA, MODEL, 1, 2)),
        (lambda data, context=None: (data, context), WITHOUT),
        (lambda *arguments, context=None: (*arguments, context), WITH),
        (Predictor(), WITH),
        (Predictor.static, WITH),
        (_logged(lambda data, model, context: (data, model, context)), WITH),
    ],
)
def test_context_goes_to_the_parameter_that_is_meant_for_it(
    function: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    """Passes the context to the right parameter, where the toolkit counts only."""
    assert _called(function) == arguments


def test_function_that_does_not_tell_its_parameters_gets_no_context() -> None:
    """Passes no context to a function without a signature."""
    found = toolkit_functions.find(_module(model_fn=max), "x").model_fn

    assert found is not None
    assert found(CONTEXT, "dir") == "r"


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda: None, r"predict_fn takes 0 parameters; it must take \(data, model\), or \(data"),
        (lambda data: None, "takes 1 parameters"),
        (lambda a, b, c, d: None, "takes 4 parameters"),
        (lambda a, b, scale, context: None, "takes 4 parameters"),
        (lambda a, b, scale, context=None: None, "takes 4 parameters"),
        (lambda a, b, scale, *, ctx: None, "takes 3 parameters"),
        (lambda data, model, *, scale: None, "requires the keyword scale"),
        ("predict", "is a str, not a function"),
    ],
)
def test_function_that_cannot_be_called_is_refused_at_start(function: Any, problem: str) -> None:
    """Fails at start, where AWS's toolkit fails at each invocation (C-061)."""
    with pytest.raises(ModelLoadError, match=problem):
        _called(function)


def test_async_function_is_refused_at_start() -> None:
    """Refuses an async function at start."""

    async def predict_fn(data: object, model: object) -> object:
        return data

    async def stream(data: object, model: object) -> Any:
        yield data

    for function in (predict_fn, stream):
        with pytest.raises(ModelLoadError, match="async, which is not supported"):
            _called(function)


@pytest.mark.parametrize("name", ["input_fn", "predict_fn", "output_fn"])
def test_transform_fn_excludes_the_functions_whose_work_it_does(name: str) -> None:
    """Refuses transform_fn beside the functions that it replaces, as the toolkit does."""

    def transform_fn(model: object, data: object, content_type: str, accept: str) -> None: ...

    def step(data: object, other: object) -> None: ...

    module = _module(**{"transform_fn": transform_fn, name: step})

    with pytest.raises(ModelLoadError, match=f"transform_fn and {name}, which it replaces"):
        toolkit_functions.find(module, "code/inference.py")


def test_function_that_is_none_is_not_defined() -> None:
    """Takes a function that is None for undefined."""

    def transform_fn(model: object, data: object, content_type: str, accept: str) -> None: ...

    module = _module(transform_fn=transform_fn, input_fn=None)

    assert toolkit_functions.find(module, "x").input_fn is None


def test_script_without_any_of_the_functions_is_refused() -> None:
    """Refuses a script that defines none, e.g. by a misspelt name."""
    with pytest.raises(
        ModelLoadError, match=r"code/inference\.py defines none .* model_fn, .*input"
    ):
        toolkit_functions.find(_module(predict=print, load_model=print), "code/inference.py")


def test_model_fn_keeps_the_default_of_its_own_parameter() -> None:
    """Calls `model_fn(model_dir, extra=None)` without a context."""
    found = toolkit_functions.find(
        _module(model_fn=lambda model_dir, extra=None: extra), "x"
    ).model_fn

    assert found is not None
    assert found(CONTEXT, "dir") is None
