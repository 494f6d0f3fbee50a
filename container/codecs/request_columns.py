"""The columns of a request body: from its content type and the model."""

from collections.abc import Mapping

from container.codecs.records import Columns
from container.errors import MalformedPayloadError


def of_content_type(
    parameters: Mapping[str, str],
    n_features: int | None = None,
    libsvm_base: int | None = 0,
    feature_names: tuple[str, ...] | None = None,
) -> Columns:
    """Combine the parameters of a content type with the facts of a model.

    Args:
        parameters: Of the content type, e.g. `{"label_size": "1"}`.
        n_features: The number of the model's features, if known. Decoders then refuse records of
            another width.
        libsvm_base: The number of the first libsvm column; see `Columns`.
        feature_names: The names of the model's features, if it has names.
    Raises:
        MalformedPayloadError: `label_size` is neither 0 nor 1.
    """
    label_size = parameters.get("label_size", "0")
    if label_size not in ("0", "1"):
        raise MalformedPayloadError(
            "the content type's label_size must be 0 (no label column, the default) or 1"
        )
    return Columns(
        int(label_size),
        n_features=n_features,
        libsvm_base=libsvm_base,
        feature_names=feature_names,
    )
