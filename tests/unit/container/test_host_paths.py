from pathlib import Path

import pytest

from container.host_paths import shorten


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot import name 'a' from 'b' (/base/dir/code/b.py)", "… 'b' (code/b.py)"),
        ("[Errno 2] No such file: '/base/dir/words.txt'", "… file: 'words.txt'"),
        ("/base/dir cannot be read", "the model directory cannot be read"),
        ("in '/base/dir'", "in 'the model directory'"),
        ("/base/dir/", "the model directory/"),
        ("/base/directory/x", "…/x"),
        ("(/usr/lib/python3/site-packages/x/core.py)", "(…/core.py)"),
        ("/workspace/src/learner.cc:12: no", "…/learner.cc:12: no"),
        ("a, /tmp/a/b/, c", "a, …/b, c"),
        ("not /opt/ml/model/words.txt", "not /opt/ml/model/words.txt"),
        ("/opt/ml", "/opt/ml"),
        ("text/csv or 1/2/3, and/or/not", "text/csv or 1/2/3, and/or/not"),
        ("see https://a.b/c/d and s3://bucket/key/x", "see https://a.b/c/d and s3://bucket/key/x"),
        ("model/xgboost-model, ./a/b, ../a/b, ~/a/b", "model/xgboost-model, ./a/b, ../a/b, ~/a/b"),
    ],
)
def test_absolute_paths_are_shortened(text: str, expected: str) -> None:
    """C-057: relative to the model directory where they are below it."""
    shown = shorten(text, Path("/base/dir"))

    assert shown.endswith(expected.removeprefix("…")) if expected[:2] == "… " else shown == expected


def test_model_directory_behind_a_link_is_known_by_both_paths(tmp_path: Path) -> None:
    """C-057: a url may be a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    text = shorten(f"{tmp_path}/real/a.json and {tmp_path}/link/b.json", tmp_path / "link")

    assert text == "a.json and b.json"
