"""Diagnosis of a refused payload: the format that it really has.

Called on the error path only. A message names the kind of the fault and its remedy. It never quotes
the payload: clients see it.
"""

import re

import simdjson

from container import content_types
from container.codecs import text_lines
from container.codecs.json import number_rows
from container.errors import MalformedPayloadError

_HEAD_BYTES = 2**12
_DECOMPRESS = "decompress it"
_DECOMPRESS_OR_GZIP = "decompress it, or compress it with gzip instead"
_EXPORT = "export its table as CSV without a header"
_AS_UTF_8 = "save it as UTF-8"

# File signatures: first bytes, kind, and the right content type or the remedy.
_FILES = tuple(
    (re.compile(first_bytes, re.DOTALL | re.IGNORECASE), kind, cure)
    for first_bytes, kind, cure in (
        (rb"\x1f\x8b\x08", "a gzip file", _DECOMPRESS),
        (rb"BZh[1-9]1AY&SY", "a bzip2 file", _DECOMPRESS_OR_GZIP),
        (rb"\x28\xb5\x2f\xfd", "a Zstandard file", _DECOMPRESS_OR_GZIP),
        (rb"\xfd7zXZ\x00", "an xz file", _DECOMPRESS_OR_GZIP),
        (rb"\x04\x22\x4d\x18", "an LZ4 file", _DECOMPRESS_OR_GZIP),
        (
            rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|docProps/|xl/)",
            "an Excel workbook",
            _EXPORT,
        ),
        (
            rb"PK\x03\x04.{26}[^/]{1,99}?\.npy",
            "an NPZ file",
            content_types.NPZ,
        ),
        (rb"PK\x03\x04(?!.{26}[^/]{1,99}?\.npy)", "a ZIP archive", "unpack it"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", _EXPORT),
        (rb"PAR1\x15", "a Parquet file", content_types.PARQUET),
        (rb"\x93NUMPY", "an NPY file", content_types.NPY),
        (rb"\x0a\x23\xd7\xce", "RecordIO", content_types.RECORDIO),
        (rb"ARROW1\x00\x00|FEA1|\xff\xff\xff\xff", "an Arrow file", _EXPORT),
        (rb"Obj\x01", "an Avro file", _EXPORT),
        (rb"ORC[\x00-\x1f]", "an ORC file", _EXPORT),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
        (rb"\x80[\x02-\x05]", "a pickle", _EXPORT),
        (rb"%PDF-", "a PDF file", _EXPORT),
        (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff|[^\x00]\x00{3}[^\x00]", "UTF-32 text", _AS_UTF_8),
        (rb"\xff\xfe|\xfe\xff|(?:[^\x00]\x00){2}|(?:\x00[^\x00]){2}", "UTF-16 text", _AS_UTF_8),
        (rb"\s*+<(?:!doctype|\?xml|html)", "HTML or XML", "send the data themselves"),
    )
)

_NUMBER = rb"[-+]?(?:\d++\.?\d*+|\.\d++)(?:e[-+]?\d++)?"
# Beginnings of the first line, by text format.
_JSON = re.compile(rb"\s*+(?:\{\s*+[\"}]|\[\s*+(?:[\[{\"\]]|-?\d|null|NaN|true|false))")
_LIBSVM = re.compile(
    rb"(?:%b(?::%b)?[ \t]++(?:qid:\d++[ \t]++)?\d++:|\d++:%b[ \t]++\d++:)%b(?:[ \t\r]|$)"
    % (_NUMBER, _NUMBER, _NUMBER, _NUMBER),
    re.IGNORECASE,
)
_CSV = re.compile(rb"[\w.+-][^:\[\]{}\x00-\x08\x0e-\x1f]*?[,;|\t]")
# A line that is a whole document, and the beginning of another document on the next line.
_SEVERAL_DOCUMENTS = re.compile(rb"\s*+[\[{][^\n]*[\]}][ \t\r]*+\n\s*+[\[{]")
_DOCUMENT_BYTES = 2**20
_CONTENT_TYPES = (
    content_types.NPY,
    content_types.NPZ,
    content_types.PARQUET,
    content_types.RECORDIO,
)
_TEXTS = (
    (
        _JSON,
        "JSON",
        (content_types.JSON, content_types.JSON_LINES),
        f"{content_types.JSON}, or {content_types.JSON_LINES} for a record a line",
    ),
    (_LIBSVM, "libsvm", (content_types.LIBSVM,), content_types.LIBSVM),
    (_CSV, "CSV", (content_types.CSV,), content_types.CSV),
)


def explained(
    error: MalformedPayloadError, body: bytes, content_type: str
) -> MalformedPayloadError:
    """Return the error to raise for a refused body: `error`, unless the body has another format.

    Args:
        error: The codec's error.
        body: The request body, from its first byte.
        content_type: Content type as which the body was read.
    """
    head = body[:_HEAD_BYTES]
    for first_bytes, kind, cure in _FILES:
        if cure != content_type and first_bytes.match(head):
            cure = f"its content type is {cure}" if cure in _CONTENT_TYPES else cure
            return MalformedPayloadError(f"this is {kind}, not {content_type}; {cure}")
    line = head.removeprefix(text_lines.BOM).lstrip().partition(b"\n")[0]
    for beginning, kind, names, name in _TEXTS:
        if content_type not in names and beginning.match(line):
            return _looks_like(kind, name, content_type)
    if content_type == content_types.JSON and _SEVERAL_DOCUMENTS.match(head):
        return _looks_like("JSON Lines", content_types.JSON_LINES, content_type)
    if content_type == content_types.JSON_LINES and _is_one_document(body):
        return _looks_like("JSON", content_types.JSON, content_type)
    return error


def _looks_like(kind: str, name: str, content_type: str) -> MalformedPayloadError:
    return MalformedPayloadError(
        f"this looks like {kind}, not {content_type}; the content type of {kind} is {name}"
    )


def _is_one_document(body: bytes) -> bool:
    """Return True if the body is one JSON document of many records, or over several lines."""
    if len(body) > _DOCUMENT_BYTES:
        return False
    try:
        document = number_rows.parse(body)
    except ValueError:
        return False
    if isinstance(document, simdjson.Object):
        return "instances" in list(document) or b"\n" in body.strip()
    if not isinstance(document, simdjson.Array) or not len(document):
        return False
    is_many = isinstance(document[0], simdjson.Array | simdjson.Object)
    return is_many or b"\n" in body.strip()
