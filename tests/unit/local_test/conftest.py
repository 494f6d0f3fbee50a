from pathlib import Path

import pytest

from local_test.ml_tree import MlTree


@pytest.fixture
def ml(tmp_path: Path) -> MlTree:
    return MlTree(tmp_path / "ml").create()
