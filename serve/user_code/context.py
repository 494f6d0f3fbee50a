"""Context of a user's functions, with the interface of multi-model-server's.

It describes the server, has the request's headers, and sets the answer's status and headers:

    def output_fn(prediction, accept, context):
        trace = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", trace)

`idx`, an index into a batch of requests, is always 0 here.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from container import __version__
from serve.invocation import Invocation

MODEL_NAME = "model"  # AWS's toolkit gives this name to the only model of a server
_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_MAX_CUSTOM_ATTRIBUTES = 1024
# Of one header and of all: what clients and load balancers commonly read.
_MAX_HEADER_CHARACTERS = 8192
_MAX_HEADERS = 64
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
# They delimit the answer, or concern one connection: the server sets them.
_SERVERS_OWN = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Headers(dict[str, str]):
    """Request headers, with names in lower case and look-ups in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class RequestProcessor:
    """One request, and the status and headers of its answer."""

    def __init__(self, invocation: Invocation) -> None:
        self._headers = Headers(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in invocation.headers.items()
        )
        self.request_id = invocation.request_id
        self.status = 200
        self.response_headers: dict[str, str] = {}

    def get_request_properties(self) -> Headers:
        """Return all headers of the request."""
        return self._headers

    def get_request_property(self, key: str) -> str | None:
        """Return one header of the request, or None."""
        value: str | None = self._headers.get(key)
        return value

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the answer, from 200 to 599; `reason_phrase` is not used."""
        if code not in range(200, 600):
            raise ValueError(f"response status {code!r} is not an integer from 200 to 599")
        self.status = int(code)

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer; replaces one of the same name."""
        if key.lower() not in self.response_headers and len(self.response_headers) >= _MAX_HEADERS:
            raise ValueError(f"the answer has {_MAX_HEADERS} headers already; no more are sent")
        self.response_headers[key.lower()] = checked_header(key, value)


class Context:
    """Context of a user's functions; attributes that `model_fn` sets are there in later calls."""

    def __init__(
        self, model_dir: Path, manifest: Mapping[str, Any], model_name: str = MODEL_NAME
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.system_properties: dict[str, Any] = {
            "model_dir": str(model_dir),
            "gpu_id": _gpu_id(),
            "batch_size": 1,
            "server_name": "byoa-sagemaker",
            "server_version": __version__,
        }
        self.request_processor: list[RequestProcessor] = []  # empty while the model is loaded

    def of(self, invocation: Invocation) -> Self:
        """Return a context for one invocation; one that is still streaming keeps its own."""
        context = copy.copy(self)
        context.request_processor = [RequestProcessor(invocation)]
        return context

    def get_request_id(self, idx: int = 0) -> str:
        """Return the request id, which the log line and an error body have, too."""
        return self.request_processor[idx].request_id

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return one header of the request, or None."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> Headers:
        """Return all headers of the request."""
        return self.request_processor[idx].get_request_properties()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of the answer.

        Raises:
            ValueError, TypeError: the header cannot be sent, or SageMaker forbids it (C-052).
        """
        self.request_processor[idx].add_response_property(key, value)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the media type of the answer; one that is returned beside the body comes first."""
        self.set_response_header(idx, "content-type", value)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of the answer, from 200 to 599."""
        self.request_processor[idx].report_status(code, phrase)


def checked_header(name: Any, value: Any) -> str:
    """Return `value` if it may be a response header: one that cannot be sent is never corrected.

    Raises:
        ValueError, TypeError: name or value are not accepted.
    """
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"response header {name!r}: name and value must be str; given: {value!r}")
    if not _NAME.fullmatch(name) or name.lower() in _SERVERS_OWN:
        raise ValueError(
            f"response header {name!r} cannot be set: it is not a header name, or is the server's"
        )
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"response header {name!r}: {value!r} has characters that are not printable ASCII; "
            "encode it, e.g. with urllib.parse.quote"
        )
    if len(value) > _MAX_HEADER_CHARACTERS:
        raise ValueError(
            f"response header {name!r} has {len(value)} characters; clients read at most "
            f"{_MAX_HEADER_CHARACTERS}: put it into the body"
        )
    if name.lower() == _CUSTOM_ATTRIBUTES and len(value) > _MAX_CUSTOM_ATTRIBUTES:
        raise ValueError(
            f"response header {name!r} has {len(value)} characters; SageMaker accepts at most "
            f"{_MAX_CUSTOM_ATTRIBUTES}"
        )
    return value


def _gpu_id() -> int | None:
    """Return the first GPU, as multi-model-server does for a single worker; None without one."""
    return 0 if any(Path("/dev").glob("nvidia[0-9]*")) else None
