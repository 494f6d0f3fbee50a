"""The protobuf message `Record` of AWS's `record.proto`, described at run time.

Not a generated `record_pb2`: protobuf refuses generated code of another major version at import,
and users' packages bring versions of their own. Generated code also registers in the common pool,
where AWS's packages have the same names. The import takes as long either way.

Source: aws/sagemaker-python-sdk, `src/sagemaker/amazon/record.proto` (read 2026-11-22).
"""

from functools import cache
from typing import Any

_PACKAGE = "aialgs.data"
# Name, number and type of the fields of every message; `*` is repeated (numbers are packed).
_MESSAGES = {
    "Float32Tensor": (("values", 1, "float*"), ("keys", 2, "uint64*"), ("shape", 3, "uint64*")),
    "Float64Tensor": (("values", 1, "double*"), ("keys", 2, "uint64*"), ("shape", 3, "uint64*")),
    "Int32Tensor": (("values", 1, "int32*"), ("keys", 2, "uint64*"), ("shape", 3, "uint64*")),
    "Bytes": (("value", 1, "bytes*"), ("content_type", 2, "string")),
    "Value": (
        ("float32_tensor", 2, "Float32Tensor"),
        ("float64_tensor", 3, "Float64Tensor"),
        ("int32_tensor", 7, "Int32Tensor"),
        ("bytes", 9, "Bytes"),
    ),
    # The entry types that protobuf derives from `map<string, Value>`.
    "FeaturesEntry": (("key", 1, "string"), ("value", 2, "Value")),
    "LabelEntry": (("key", 1, "string"), ("value", 2, "Value")),
    "Record": (
        ("features", 1, "FeaturesEntry*"),
        ("label", 2, "LabelEntry*"),
        ("uid", 3, "string"),
        ("metadata", 4, "string"),
        ("configuration", 5, "string"),
    ),
}
_ENTRIES = ("FeaturesEntry", "LabelEntry")  # nested in `Record`


@cache
def record_class() -> Any:
    """Return the class of `Record` messages; the first call imports protobuf (13 ms, 3 MB)."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package=_PACKAGE)
    messages = {}
    for name in (name for name in _MESSAGES if name not in _ENTRIES):
        messages[name] = file.message_type.add(name=name)
    for name in _ENTRIES:
        messages[name] = messages["Record"].nested_type.add(name=name)
        messages[name].options.map_entry = True
    messages["Value"].oneof_decl.add(name="value")
    for name, fields in _MESSAGES.items():
        for field in fields:
            _add_field(messages[name], *field)
    # A pool of its own: AWS's packages register the same names in the common one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Record"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    kind, star, _ = kind.partition("*")
    field.label = field.LABEL_REPEATED if star else field.LABEL_OPTIONAL
    if kind in _MESSAGES:
        field.type = field.TYPE_MESSAGE
        parent = "Record." if kind in _ENTRIES else ""
        field.type_name = f".{_PACKAGE}.{parent}{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
        field.options.packed = bool(star) and kind not in ("bytes", "string")
    if message.name == "Value":
        field.oneof_index = 0
