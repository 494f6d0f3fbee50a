import json
from pathlib import Path

import pytest

from container import manifest
from container.errors import ModelLoadError
from container.manifest import MANIFEST_FILE, Framework, ModelFacts

FACTS = ModelFacts(framework=Framework(name="none", version="1"), n_features=3)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "model.bin").write_bytes(b"weights")
    manifest.write(tmp_path, "constant", FACTS)
    return tmp_path


def test_read_gives_back_what_was_written(artifact: Path) -> None:
    """The manifest knows the algorithm, the facts and each file's digest."""
    found = manifest.read(artifact)

    assert found is not None
    assert found.algorithm == "constant"
    assert found.model == FACTS
    # printf weights | sha256sum
    assert found.files["model.bin"].sha256 == (
        "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    )
    assert found.files["model.bin"].n_bytes == 7


def test_write_twice_gives_the_same_bytes(artifact: Path) -> None:
    """Writes the same bytes whatever time and host."""
    first = (artifact / MANIFEST_FILE).read_bytes()
    (artifact / MANIFEST_FILE).unlink()

    manifest.write(artifact, "constant", FACTS)

    assert (artifact / MANIFEST_FILE).read_bytes() == first


def test_read_without_a_manifest_is_none(tmp_path: Path) -> None:
    """Artifacts of other containers have none."""
    assert manifest.read(tmp_path) is None


@pytest.mark.parametrize("change", [b"weightz", b"weights and more"])
def test_read_changed_file_is_refused_by_name(artifact: Path, change: bytes) -> None:
    """Refuses a file with a wrong digest."""
    (artifact / "model.bin").write_bytes(change)

    with pytest.raises(ModelLoadError, match=r"'model\.bin' is not the file"):
        manifest.read(artifact)


def test_read_missing_file_is_refused_by_name(artifact: Path) -> None:
    """Half an artifact is none."""
    (artifact / "model.bin").unlink()

    with pytest.raises(ModelLoadError, match=r"names 'model\.bin', which is missing"):
        manifest.read(artifact)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", ""])
def test_read_file_outside_the_artifact_is_refused(artifact: Path, name: str) -> None:
    """A manifest cannot make the server look elsewhere."""
    content = json.loads((artifact / MANIFEST_FILE).read_text())
    content["files"][name] = content["files"]["model.bin"]
    (artifact / MANIFEST_FILE).write_text(json.dumps(content))

    with pytest.raises(ModelLoadError, match="outside"):
        manifest.read(artifact)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ('{"schema_version": 2}', "schema_version"),
    ],
)
def test_read_broken_manifest_says_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    """A manifest of another schema is not guessed at."""
    (tmp_path / MANIFEST_FILE).write_text(text)

    with pytest.raises(ModelLoadError, match=problem):
        manifest.read(tmp_path)
