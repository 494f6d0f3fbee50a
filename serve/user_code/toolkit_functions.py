"""The functions that a user's script may define, and their arguments.

    pre_model_fn(model_dir)             before the model is loaded
    model_fn(model_dir)                 load and return the model
    model_warmup_fn(model_dir, model)   after the model is loaded
    input_fn(input_data, content_type)  request body -> data
    predict_fn(data, model)             data -> prediction
    output_fn(prediction, accept)       prediction -> response body
    transform_fn(model, input_data, content_type, accept)   the last three in one

Each may take the context as one parameter more: one that is called `context` or `ctx`, is annotated
with a class called `Context`, or has no default. Names, order and meaning are those of AWS's
sagemaker-inference-toolkit 1.10.1; what differs is in docs/user_code.md.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from inspect import Parameter
from types import ModuleType
from typing import Any

from container.errors import ModelLoadError

# Called with the context, then with the arguments in `_ARGUMENTS`.
UserFunction = Callable[..., Any]

_ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "input_fn": ("input_data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
    "transform_fn": ("model", "input_data", "content_type", "accept"),
}
_CONTEXT_NAMES = ("context", "ctx")
_CONTEXT_CLASS = "Context"  # the class in multi-model-server, whose interface ours has
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFunctions:
    """The functions of a script; None for one that it does not define."""

    pre_model_fn: UserFunction | None = None
    model_fn: UserFunction | None = None
    model_warmup_fn: UserFunction | None = None
    input_fn: UserFunction | None = None
    predict_fn: UserFunction | None = None
    output_fn: UserFunction | None = None
    transform_fn: UserFunction | None = None


def find(module: ModuleType, shown_name: str) -> UserFunctions:
    """Find the functions of a script.

    Args:
        module: The script, loaded.
        shown_name: Its name in errors.
    Raises:
        ModelLoadError: it defines none of them, two exclude each other, or one has the wrong
            parameters.
    """
    found = {name: getattr(module, name, None) for name in _ARGUMENTS}
    given = {name: function for name, function in found.items() if function is not None}
    if not given:
        raise ModelLoadError(
            f"{shown_name} defines none of these functions: {', '.join(_ARGUMENTS)}; define one"
        )
    excluded = [name for name in ("input_fn", "predict_fn", "output_fn") if name in given]
    if "transform_fn" in given and excluded:
        raise ModelLoadError(
            f"{shown_name} defines transform_fn and {', '.join(excluded)}, which it replaces; "
            "define transform_fn alone, or the others without it"
        )
    adapted = {}
    for name, function in given.items():
        try:
            adapted[name] = _adapted(function, len(_ARGUMENTS[name]))
        except TypeError as error:
            arguments = ", ".join(_ARGUMENTS[name])
            raise ModelLoadError(
                f"{shown_name}: {name} {error}; it must take ({arguments}), or ({arguments}, "
                "context)"
            ) from error
    return UserFunctions(**adapted)


def _adapted(function: Any, n_arguments: int) -> UserFunction:
    """Adapt a function so that it can be called with the context as first argument.

    Raises:
        TypeError: it has the wrong parameters; the message continues after the function's name.
    """
    if not callable(function):
        raise TypeError(f"is a {type(function).__name__}, not a function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("is async, which is not supported")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C have no signature
        return lambda context, *arguments: function(*arguments)
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    takes_any = any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters)
    for_context = _for_context(parameters, n_arguments)
    required = [p for p in parameters if _is_required(p) and p is not for_context]
    n_required = sum(parameter.kind in _POSITIONAL for parameter in required)
    if n_required > n_arguments or (len(positional) < n_arguments and not takes_any):
        raise TypeError(f"takes {len(positional)} parameters")
    missing = [p.name for p in required if p.kind is Parameter.KEYWORD_ONLY]
    if missing:
        raise TypeError(f"requires the keyword {', '.join(missing)}")
    if for_context is None:
        return lambda context, *arguments: function(*arguments)
    if positional[n_arguments : n_arguments + 1] == [for_context]:
        return lambda context, *arguments: function(*arguments, context)
    name = for_context.name
    return lambda context, *arguments: function(*arguments, **{name: context})


def _for_context(parameters: Collection[Parameter], n_arguments: int) -> Parameter | None:
    """Return the parameter that takes the context, or None.

    The toolkit counts parameters: `predict_fn(data, model, threshold=0.5)` gets the context as its
    threshold there. Here a parameter with a default keeps it unless it is named for the context.
    """
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    surplus = positional[n_arguments:]
    keyword_only = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    for parameter in (*surplus, *keyword_only):
        if parameter.name in _CONTEXT_NAMES or _annotated_class(parameter) == _CONTEXT_CLASS:
            is_reachable = parameter.kind is not Parameter.POSITIONAL_ONLY
            if is_reachable or parameter is surplus[0]:
                return parameter
    return next((parameter for parameter in surplus[:1] if _is_required(parameter)), None)


def _annotated_class(parameter: Parameter) -> str:
    """Return the bare name of a parameter's class; annotations may be text or `Context | None`."""
    annotation = parameter.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.partition("|")[0].strip().rpartition(".")[2]


def _is_required(parameter: Parameter) -> bool:
    is_variable = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not is_variable
