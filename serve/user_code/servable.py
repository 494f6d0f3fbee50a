"""A model that brings its own code: `code/inference.py` in the model directory.

    request body -> input_fn -> predict_fn -> output_fn -> response body

or `transform_fn` in place of the three. The defaults of missing functions are in
`serve/user_code/default_codecs.py` and `serve/user_code/default_predict.py`; without a `model_fn`
an algorithm that recognises the files loads the model. docs/user_code.md is the guide for authors
of such code.

The code is not trusted. It runs in a process of its own (`serve/model_process`), or in that of
multi-model-server for this model, and answers one invocation at a time.
"""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from container import content_types
from container.errors import ContainerError, MalformedPayloadError, SettingsError
from serve.invocation import EMPTY, Answer, Invocation, read_as
from serve.user_code import default_codecs
from serve.user_code.context import Context
from serve.user_code.response import answer_of, translation, unsupported_format
from serve.user_code.toolkit_functions import UserFunction, UserFunctions

_UTF_8 = ("", "utf-8", "utf8", "us-ascii", "ascii")


class Loaded(NamedTuple):
    """A model, and the defaults for functions and headers that are missing."""

    model: Any
    default_predict: Callable[[Any, Any], Any]  # called with data and model
    default_content_type: str
    feature_names: tuple[str, ...] | None = None  # of the model, if it has them


class ScriptServable:
    """A model with a script: `serve.invocation.Servable`."""

    is_thread_safe = False
    limits_itself = False

    def __init__(
        self,
        functions: UserFunctions,
        loaded: Loaded,
        context: Context,
        default_accept: str,
        *,
        is_batch: bool = False,
        libsvm_base: int | None = 0,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Args:
        facts: What the log says of the loaded model.
        Raises:
            SettingsError: no encoder writes `default_accept`.
        """
        self.facts = dict(facts or {})
        self._is_batch = is_batch
        self._libsvm_base = libsvm_base
        self._functions = functions
        self._loaded = loaded
        self._context = context
        self._default_accept = default_accept
        if functions.output_fn or functions.transform_fn:
            return
        self._default_accept = content_types.parse(default_accept).name
        if self._default_accept not in default_codecs.RESPONSE_TYPES:
            raise SettingsError(
                "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
                default_accept,
                f"one of {', '.join(default_codecs.RESPONSE_TYPES)}, or define output_fn",
            )

    @property
    def has_own_formats(self) -> bool:
        """True if a function of the user's reads the body, rather than `default_codecs`."""
        return bool(self._functions.input_fn or self._functions.transform_fn)

    def may_run_inline(self, invocation: Invocation) -> bool:
        return False

    def close(self) -> None:
        """Do nothing: the code's objects are freed with this one."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation with the user's functions.

        An empty body is given to the user's function that reads bodies; without one the answer is
        empty, too (C-058).

        Raises:
            UserCodeError: the code refused the invocation with a status of its own.
            ContainerError: raised by the default of a missing function.
            Exception: any other exception of the code.
        """
        functions = self._functions
        if not invocation.body and not self.has_own_formats:
            return EMPTY
        try:
            if functions.transform_fn:
                return self._transform(invocation, functions.transform_fn)
            return self._decode_predict_encode(invocation)
        except ContainerError:
            raise
        except BaseException as error:
            translated = translation(error)
            if translated is None:
                raise
            raise translated from error

    def _transform(self, invocation: Invocation, transform_fn: UserFunction) -> Answer:
        context = self._context.of(invocation)
        accept = self._accept(invocation)
        started = perf_counter()
        content_type = invocation.content_type or None
        result = transform_fn(
            context, self._loaded.model, _input_data(invocation), content_type, accept
        )
        asked_for = _first_type(accept, self._default_accept)
        answer = answer_of(result, context.request_processor[0], asked_for)
        return answer._replace(stages=(0.0, perf_counter() - started, 0.0))

    def _decode_predict_encode(self, invocation: Invocation) -> Answer:
        context = self._context.of(invocation)
        started = perf_counter()
        data = self._decode(invocation, context)
        decoded = perf_counter()
        prediction = self._predict(data, context)
        predicted = perf_counter()
        answer = self._encode(prediction, self._accept(invocation), context)
        stages = (decoded - started, predicted - decoded, perf_counter() - predicted)
        return answer._replace(n_rows=_n_rows(data), stages=stages)

    def _decode(self, invocation: Invocation, context: Context) -> Any:
        input_fn = self._functions.input_fn
        if input_fn:
            return input_fn(context, _input_data(invocation), invocation.content_type or None)
        media = content_types.parse(invocation.content_type or self._loaded.default_content_type)
        names = self._loaded.feature_names
        try:
            return default_codecs.decode(invocation.body, media, self._libsvm_base, names)
        except MalformedPayloadError as error:
            raise read_as(error, invocation, media.name) from None

    def _predict(self, data: Any, context: Context) -> Any:
        predict_fn = self._functions.predict_fn
        if predict_fn:
            return predict_fn(context, data, self._loaded.model)
        return self._loaded.default_predict(data, self._loaded.model)

    def _encode(self, prediction: Any, accept: str, context: Context) -> Answer:
        output_fn = self._functions.output_fn
        request = context.request_processor[0]
        asked_for = _first_type(accept, self._default_accept)
        if output_fn:
            try:
                result = output_fn(context, prediction, accept)
            except Exception as error:
                refusal = unsupported_format(error, 406)  # the format is that of `accept` here
                if refusal is None:
                    raise
                raise refusal from error
            return answer_of(result, request, asked_for)
        if hasattr(prediction, "__next__"):  # needs no encoder
            return answer_of(prediction, request, asked_for)
        # Of media types with equal q-values the first one wins, as in the toolkit.
        preferred = content_types.parse(asked_for).name
        if preferred not in default_codecs.RESPONSE_TYPES:
            preferred = self._default_accept
        media_type = content_types.negotiate(accept, default_codecs.RESPONSE_TYPES, preferred)
        body = default_codecs.encode(prediction, media_type)
        if self._is_batch and media_type == content_types.JSON:
            body += b"\n"  # as without a script (C-073)
        return answer_of(body, request, media_type)

    def _accept(self, invocation: Invocation) -> str:
        """Return `accept` for the user's code: the header, or the default without one (C-056)."""
        if content_types.parse(invocation.accept).name in ("", "*/*"):
            return self._default_accept
        return invocation.accept


def _input_data(invocation: Invocation) -> str | bytes:
    """Return the body for the user's code: `str` for CSV and JSON, `bytes` for all other types.

    The toolkit compares the whole header with `text/csv` and `application/json`, so that there
    `text/csv; charset=utf-8` is `bytes`; here only a charset that is not UTF-8 makes a difference.
    """
    media = content_types.parse(invocation.content_type)
    is_text = media.name in (content_types.CSV, content_types.JSON)
    if not is_text or media.parameters.get("charset", "").lower() not in _UTF_8:
        return invocation.body
    try:
        return invocation.body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPayloadError("the text is not UTF-8") from error


def _first_type(accept: str, default: str) -> str:
    """Return the first media type of `accept`, for a body that was returned without one."""
    for accepted in accept.split(","):
        name, *parameters = (part.strip() for part in accepted.split(";"))
        if name and "*" not in name:
            kept = (part for part in parameters if not part.lower().startswith("q="))
            return "; ".join((name, *kept))
    return default


def _n_rows(data: Any) -> int:
    """Return the number of records in an array, a table or a matrix; 0 where it is not known."""
    shape = getattr(data, "shape", None)
    return shape[0] if isinstance(shape, tuple) and shape and isinstance(shape[0], int) else 0
