"""The fixtures of `tests/unit/serve/multi_model`."""

from tests.unit.serve.multi_model.conftest import add, registry, versions

__all__ = ["add", "registry", "versions"]
