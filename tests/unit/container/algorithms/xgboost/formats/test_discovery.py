"""Which files are models, in whatever form AWS's container and others left them."""

import bz2
import gzip
import json
import lzma
import math
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost
from joblib import numpy_pickle
from sklearn.preprocessing import LabelEncoder

from container import cgroup
from container.algorithms.serving_contract import ServingOptions
from container.algorithms.xgboost.algorithm import ALGORITHM
from container.algorithms.xgboost.serving.model import XGBoostEnsemble
from container.errors import ModelLoadError
from container.manifest import ModelManifest

RANDOM = np.random.default_rng(3)
FEATURES = RANDOM.normal(size=(200, 4)).astype(np.float32)
OPTIONS = ServingOptions()


def _booster(seed: int = 0, **parameters: Any) -> xgboost.Booster:
    labels = (FEATURES[:, seed % 4] > 0).astype(np.float32)
    given = {"objective": "binary:logistic", "nthread": 1} | parameters
    return xgboost.train(given, xgboost.DMatrix(FEATURES, labels), 4)


def _predicted(booster: xgboost.Booster) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(FEATURES))


@pytest.mark.parametrize("name", ["xgboost-model", "model.ubj", "anything", "model.json"])
@pytest.mark.parametrize("raw_format", ["ubj", "json"])
def test_model_is_known_by_its_content(tmp_path: Path, name: str, raw_format: str) -> None:
    """Recognises a model by its content, whatever its name (C-060)."""
    booster = _booster()
    (tmp_path / name).write_bytes(booster.save_raw(raw_format))

    assert ALGORITHM.recognises(tmp_path)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(booster))


def test_foreign_files_are_no_models(tmp_path: Path) -> None:
    """C-060: settings, notes, what a finder leaves, a directory of code."""
    (tmp_path / "model.ubj").write_bytes(_booster().save_raw("ubj"))
    (tmp_path / "._model.ubj").write_bytes(_booster().save_raw("ubj"))
    (tmp_path / "config.json").write_text('{"threshold": 0.5, "learner_count": 1}')
    (tmp_path / "labels.json").write_text("[1, 2]")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "scaler.pkl").write_bytes(b"not even a pickle")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("")

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(_booster()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("encoder.pkl", pickle.dumps(["a", "b"])),
        ("metadata.json", b'{"version": "1.0.0"}'),
        ("run.json", b'{"learner": "xgb"}'),
        ("settings.json", b'{"learner": {"name": "xgb"}, "version": [1, 0]}'),
        ("xgboost-checkpoint.3", bytes(_booster(1).save_raw("ubj"))),
    ],
)
def test_file_that_resembles_a_model_is_passed_over(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """C-060: beside a model whose name says nothing."""
    (tmp_path / "model.json").write_bytes(_booster().save_raw("json"))
    (tmp_path / name).write_bytes(content)

    assert ALGORITHM.recognises(tmp_path)
    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(_booster()))


def test_what_is_passed_over_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C-060: by name, with the reason, once."""
    (tmp_path / "model.ubj").write_bytes(_booster().save_raw("ubj"))
    (tmp_path / "encoder.pkl").write_bytes(pickle.dumps(["a", "b"]))

    ALGORITHM.verify(tmp_path, None)
    ALGORITHM.load(tmp_path, None, OPTIONS)

    (record,) = caplog.records
    assert (record.message, record.levelname) == ("file_passed_over", "WARNING")
    assert record.__dict__["file"] == "encoder.pkl"
    assert "without a booster" in record.__dict__["reason"]


def test_models_are_recognised_without_being_read(tmp_path: Path) -> None:
    """C-061: what reading a file may do, it shall do to the process that tries the model."""
    for name in ("a.ubj", "b.ubj"):
        with (tmp_path / name).open("wb") as file:
            file.write(_booster().save_raw("ubj"))
            file.truncate(2**24)

    tracemalloc.start()
    is_recognised = ALGORITHM.recognises(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert is_recognised
    assert peak < 2**20


def test_file_called_as_the_model_is_stands_alone(tmp_path: Path) -> None:
    """C-060: a second model under another name makes no ensemble of it."""
    (tmp_path / "xgboost-model").write_bytes(_booster().save_raw("ubj"))
    (tmp_path / "model.json").write_bytes(_booster(1).save_raw("json"))

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(_booster()))


def test_damaged_model_is_not_taken_for_a_foreign_file(tmp_path: Path) -> None:
    """C-061: an ensemble that lacks one of its models would predict something else in silence."""
    for seed in range(2):
        (tmp_path / f"model-{seed}.ubj").write_bytes(_booster(seed).save_raw("ubj"))
    damaged = tmp_path / "model-1.ubj"
    damaged.write_bytes(damaged.read_bytes()[:-100])

    with pytest.raises(ModelLoadError, match=r"model-1\.ubj is damaged"):
        ALGORITHM.verify(tmp_path, None)


def test_what_is_wrong_with_the_only_candidate_is_said(tmp_path: Path) -> None:
    """C-061: rather than that there is no model."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(["a", "b"]))
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(["a", "b"]))

    assert ALGORITHM.recognises(tmp_path)
    with pytest.raises(ModelLoadError, match=r"model\.pkl is a pickle without a booster"):
        ALGORITHM.verify(tmp_path, None)


def test_json_model_after_white_space_is_read(tmp_path: Path) -> None:
    """An editor or a template may leave an empty line before it."""
    text = json.dumps(json.loads(_booster().save_raw("json")), indent=2)
    (tmp_path / "model.json").write_text(f"\n \t{text}\n")

    assert ALGORITHM.recognises(tmp_path)
    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(_booster()))


def test_manifest_that_names_no_model_is_told_from_a_directory_without_one(tmp_path: Path) -> None:
    """C-061: each says what is missing."""
    facts = {"objective": "binary:logistic", "n_features": 4, "best_iteration": None}
    described = ModelManifest.model_construct(files={}, model=facts)

    with pytest.raises(ModelLoadError, match="has a manifest that names no file"):
        ALGORITHM.load(tmp_path, described, OPTIONS)
    with pytest.raises(ModelLoadError, match="holds no XGBoost model"):
        ALGORITHM.load(tmp_path, None, OPTIONS)


def test_directory_without_a_model_is_not_recognised(tmp_path: Path) -> None:
    """Another algorithm may know it."""
    (tmp_path / "config.json").write_text('{"a": 1}')

    assert not ALGORITHM.recognises(tmp_path)
    assert not ALGORITHM.recognises(tmp_path / "absent")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_booster_loads_without_unpickling(tmp_path: Path, protocol: int) -> None:
    """C-097: what AWS's container wrote with pickle.dump, in every protocol."""
    booster = _booster()
    (tmp_path / "xgboost-model").write_bytes(pickle.dumps(booster, protocol))

    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(booster))


class Evil:
    """Makes a pickle that calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda canary: Evil(os.system, f"touch {canary}"), "posix.system"),
        (lambda canary: Evil(eval, f"open({str(canary)!r}, 'w')"), "builtins.eval"),
        (lambda canary: Evil(Path.touch, canary), "pathlib"),
        (lambda canary: Evil(getattr, "", "join"), "builtins.getattr"),
        (lambda canary: Evil(bytearray, 10**12), "bytearray"),
        (lambda canary: xgboost.XGBClassifier(), "without a booster"),
        (lambda canary: {"handle": b"x"}, "without a booster"),
        (lambda canary: [1, 2], "without a booster"),
    ],
)
def test_hostile_pickle_is_refused_by_name_and_never_run(
    tmp_path: Path, content: Any, named: str
) -> None:
    """Builds nothing but a booster and its parts from a pickle."""
    canary = tmp_path / "canary"
    (tmp_path / "xgboost-model").write_bytes(pickle.dumps(content(canary)))

    with pytest.raises(ModelLoadError, match=named):
        ALGORITHM.load(tmp_path, None, OPTIONS)

    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "without a booster"),
        (b"\x80\x02Np9999999999\n.", "without a booster"),
        (b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b".", "it ends early"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b".", "it ends early"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b".", "it ends early"),
    ],
    ids=["memo", "memo-in-text", "bytes", "bytes-of-64-bits", "bytearray"],
)
def test_pickle_that_announces_gigabytes_is_refused_before_they_are_taken(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    """C-061: a memo of 34 GB takes nine bytes."""
    (tmp_path / "xgboost-model").write_bytes(content)

    tracemalloc.start()
    with pytest.raises(ModelLoadError, match=problem):
        ALGORITHM.load(tmp_path, None, OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**22


def _state(name: bytes, value: bytes) -> bytes:
    """BUILD with a state and a slot state of one member each."""
    member = b"}X" + struct.pack("<I", len(name)) + name + value + b"s"
    return member + member + b"\x86b."


@pytest.mark.parametrize(
    "made",
    [
        b"cbuiltins\nbytearray\n",
        b"c_codecs\nencode\n",
        b"ccopyreg\n_reconstructor\n",
        b"cbuiltins\nobject\n",
        b"cxgboost.core\nBooster\n",
        b"cxgboost.sklearn\nXGBClassifier\n",
        b"cnumpy\nndarray\n",
    ],
)
@pytest.mark.parametrize("name", [b"__defaults__", b"__doc__", b"state", b"__class__"])
def test_pickle_changes_nothing_of_what_it_may_use(
    tmp_path: Path, made: bytes, name: bytes
) -> None:
    """Refuses BUILD on a function: its attributes would be the next pickle's as well."""
    (tmp_path / "xgboost-model").write_bytes(b"\x80\x02" + made + _state(name, b"N"))

    with pytest.raises(ModelLoadError, match="is not a pickled booster"):
        ALGORITHM.load(tmp_path, None, OPTIONS)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "xgboost-model").write_bytes(pickle.dumps(_booster(), protocol))
        ALGORITHM.load(tmp_path, None, OPTIONS)


def test_refusal_of_a_pickle_is_short(tmp_path: Path) -> None:
    """Cuts the name that a file asks for, which may be of any length."""
    for content in (b"\x80\x02c%b\nf\n." % (b"x" * 100_000), b"\x80\x02F%b\n." % (b"x" * 100_000)):
        (tmp_path / "xgboost-model").write_bytes(content)

        with pytest.raises(ModelLoadError) as caught:
            ALGORITHM.load(tmp_path, None, OPTIONS)

        assert len(caught.value.message) < 500


def _estimator(**parameters: Any) -> xgboost.XGBClassifier:
    labels = (FEATURES[:, 0] > 0).astype(int)
    estimator = xgboost.XGBClassifier(n_estimators=4, n_jobs=1, **parameters)
    estimator.fit(FEATURES, labels, eval_set=[(FEATURES, labels)], verbose=False)
    # Older versions kept these; NumPy and scikit-learn pickle them in ways of their own.
    estimator.kept = [np.array([0, 1]), np.float32(0.5), np.dtype("<i8"), LabelEncoder().fit([3])]
    return estimator


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_estimator_serves_its_booster(tmp_path: Path, protocol: int) -> None:
    """C-097: of XGBClassifier the probabilities, as its booster predicts them."""
    estimator = _estimator()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(estimator, protocol))

    assert ALGORITHM.recognises(tmp_path)
    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), estimator.predict_proba(FEATURES)[:, 1])


@pytest.mark.parametrize(
    "parameters",
    [
        {"early_stopping_rounds": 2},
        {"callbacks": [xgboost.callback.EarlyStopping(rounds=2)]},
        {"eval_metric": ["logloss", "auc"], "random_state": np.random.RandomState(1)},
    ],
)
def test_pickled_estimator_may_keep_what_it_was_fitted_with(
    tmp_path: Path, parameters: dict[str, Any]
) -> None:
    """C-097: evaluations, callbacks and the like are nobody's business here."""
    estimator = _estimator(**parameters)
    (tmp_path / "xgboost-model").write_bytes(pickle.dumps(estimator))

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), estimator.predict_proba(FEATURES)[:, 1])


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
@pytest.mark.parametrize("missing", [-999, 0.0, 0.1, math.inf, -math.inf, None])
def test_missing_value_of_an_estimator_is_kept(
    tmp_path: Path, missing: float | None, booster: str
) -> None:
    """C-097: its booster alone would take that value for a number; NaN is missing as well."""
    features = FEATURES.copy()
    features[::3, 1] = features[1::3, 0] = math.nan if missing is None else missing
    estimator = xgboost.XGBClassifier(
        n_estimators=4, n_jobs=1, booster=booster, missing=missing or math.nan
    )
    if missing is not None:
        estimator.set_params(missing=missing)
    estimator.fit(features, FEATURES[:, 0] + FEATURES[:, 1] > 0)
    estimator.missing = missing  # older versions keep None for NaN
    (tmp_path / "xgboost-model").write_bytes(pickle.dumps(estimator))
    estimator.missing = math.nan if missing is None else missing
    features[::5, 2] = math.nan

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    expected = estimator.predict_proba(features)[:, 1]
    np.testing.assert_allclose(model.predict(features), expected, atol=1e-6)
    if missing not in (None, 0.0):  # and it is not a number like others
        features[features == missing] = 5
        assert not np.allclose(model.predict(features), expected)


def test_missing_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Pairs of pairs: 60 instructions, 2**60 words, which the message does not write out."""
    pairs: Any = ()
    for _ in range(60):
        pairs = (pairs, pairs)
    for missing in (pairs, 10**5000):
        estimator = _estimator()
        estimator.missing = missing
        (tmp_path / "xgboost-model").write_bytes(pickle.dumps(estimator))

        with pytest.raises(ModelLoadError, match="`missing` is not a plain number"):
            ALGORITHM.load(tmp_path, None, OPTIONS)


def _with_arrays() -> xgboost.XGBClassifier:
    """An estimator with arrays of all kinds, as older versions and their users keep them."""
    estimator = _estimator()
    estimator.arrays = {
        "classes": np.array(["no", "yes"]),
        "integers": np.arange(6).reshape(2, 3),
        "columns first": np.asfortranarray(np.ones((3, 4), np.float32)),
        "empty": np.empty((0, 3)),
        "scalar": np.array(1.5),
        "flags": [np.array([True]), np.array([b"a", b"bc"]), np.array(["2026"], "datetime64[Y]")],
        "big endian": np.array([1, 2], ">i4"),
    }
    return estimator


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("compress", [0, "zlib", "gzip", "bz2", "xz", "lzma"])
def test_joblib_file_is_read_as_the_pickle_is(
    tmp_path: Path, compress: str | int, protocol: int
) -> None:
    """C-097: plain and compressed, the arrays in it passed over."""
    estimator = _with_arrays()
    file = tmp_path / "model.joblib"
    joblib.dump(estimator, file, compress=(compress, 3) if compress else 0, protocol=protocol)

    assert ALGORITHM.recognises(tmp_path)
    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), estimator.predict_proba(FEATURES)[:, 1])


def test_joblib_file_without_padding_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-097: joblib before 1.2 wrote none."""
    make = numpy_pickle.NumpyArrayWrapper.__init__

    def make_without_padding(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        del self.numpy_array_alignment_bytes

    monkeypatch.setattr(numpy_pickle.NumpyArrayWrapper, "__init__", make_without_padding)
    estimator = _with_arrays()
    joblib.dump(estimator, tmp_path / "model.joblib")

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), estimator.predict_proba(FEATURES)[:, 1])


@pytest.mark.parametrize(
    "name", ["model.joblib.gz", "model.pkl.z", "model.xz", "xgboost-model", "model.bz2"]
)
def test_compressed_model_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    """C-097: joblib compresses by the name; a table or an archive beside it is no model."""
    booster = _booster()
    joblib.dump(booster, tmp_path / name, compress=0 if name != "xgboost-model" else 3)
    for other in ("data.csv.gz", "source.tar.gz"):
        (tmp_path / other).write_bytes(gzip.compress(b"1,2,3"))

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(booster))


@pytest.mark.parametrize("raw_format", ["ubj", "json"])
def test_compressed_model_without_a_pickle_is_read(tmp_path: Path, raw_format: str) -> None:
    """C-097: whatever form it has inside."""
    booster = _booster()
    (tmp_path / "xgboost-model").write_bytes(gzip.compress(booster.save_raw(raw_format)))

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(booster))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (np.array(["a", None], dtype=object), "whose elements are not numbers or text"),
        (np.zeros(2, "f4,i2"), "whose elements are not numbers or text"),
    ],
)
def test_array_of_objects_in_a_joblib_file_is_refused(
    tmp_path: Path, arrays: np.ndarray, problem: str
) -> None:
    """C-097: a second pickle follows it."""
    estimator = _estimator()
    estimator.arrays = arrays
    joblib.dump(estimator, tmp_path / "model.joblib")

    with pytest.raises(ModelLoadError, match=problem):
        ALGORITHM.load(tmp_path, None, OPTIONS)


@pytest.mark.parametrize("compress", [0, 3])
def test_hostile_joblib_file_is_not_run(tmp_path: Path, compress: int) -> None:
    """C-097: neither what a pickle calls nor what an array of objects holds."""
    canary = tmp_path / "canary"
    evil = Evil(os.system, f"touch {canary}")
    for hostile in (evil, np.array([evil], dtype=object), [np.arange(3), evil]):
        joblib.dump(hostile, tmp_path / "model.joblib", compress=compress)

        with pytest.raises(ModelLoadError, match=r"posix\.system|not numbers or text"):
            ALGORITHM.load(tmp_path, None, OPTIONS)

    assert not canary.exists()


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((2**40,), "larger than the file"),
        ((2**62, 2**62), "larger than the file"),
        ((-1,), "whose shape is not one"),
        ((1.5,), "whose shape is not one"),
        ((1,) * 65, "whose shape is not one"),
        ("12", "without a type or a shape"),
    ],
)
def test_array_that_a_joblib_file_does_not_hold_is_refused(
    tmp_path: Path, shape: Any, problem: str
) -> None:
    """C-061: before memory is taken for it."""
    wrapper = numpy_pickle.NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype("f8"))
    (tmp_path / "model.joblib").write_bytes(pickle.dumps(wrapper)[:-1] + b"\0" + b"." * 80)

    tracemalloc.start()
    with pytest.raises(ModelLoadError, match=problem):
        ALGORITHM.load(tmp_path, None, OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**22


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_decompression_bomb_is_refused(
    tmp_path: Path, compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-061: a quarter of the container's memory is the limit."""
    monkeypatch.setattr(cgroup, "memory_bytes", lambda: 2**23)
    (tmp_path / "model.joblib").write_bytes(compress(bytes(2**24)))

    tracemalloc.start()
    with pytest.raises(ModelLoadError, match="decompresses to more than 2 MiB"):
        ALGORITHM.load(tmp_path, None, OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**25  # 8 MiB are lzma's own


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_file_that_is_damaged_is_refused(tmp_path: Path, compress: Any) -> None:
    """C-061: cut, or with other bytes in it."""
    whole = compress(pickle.dumps(_booster()))
    for damaged in (whole[:-20], whole[:20], whole[:40] + bytes(60) + whole[100:]):
        (tmp_path / "model.joblib").write_bytes(damaged)

        with pytest.raises(ModelLoadError, match=r"model\.joblib is damaged"):
            ALGORITHM.load(tmp_path, None, OPTIONS)


def test_lz4_is_refused_with_what_is_read(tmp_path: Path) -> None:
    """C-061: joblib needs a package for it that the image does not have."""
    (tmp_path / "model.joblib").write_bytes(b"\x04\x22\x4d\x18" + bytes(100))

    with pytest.raises(ModelLoadError, match=r"compressed by lz4, which is not read.*zlib, gzip"):
        ALGORITHM.load(tmp_path, None, OPTIONS)


@pytest.mark.parametrize("kind", ["xgboost.core\nBooster", "xgboost.sklearn\nXGBRegressor"])
def test_pickled_object_without_a_state_is_refused(tmp_path: Path, kind: str) -> None:
    """Refuses `kind.__new__(kind)` alone, which no version writes."""
    (tmp_path / "xgboost-model").write_bytes(f"\x80\x02c{kind}\n)\x81.".encode("latin-1"))

    with pytest.raises(ModelLoadError, match="without a booster"):
        ALGORITHM.load(tmp_path, None, OPTIONS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["age", "income"], ("age", "income")),
        (["f0", "f1"], None),  # XGBoost's own, for data without names
        (None, None),
        ([b"age", 1], None),
    ],
)
def test_names_beside_the_booster_of_a_pickle_are_its_features(
    tmp_path: Path, names: Any, expected: tuple[str, ...] | None
) -> None:
    """Reads the names beside the state, as XGBoost up to 1.3 stores them."""
    rows = np.random.default_rng(0).random((20, 2))
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 1)
    state = {"handle": booster.__getstate__()["handle"], "feature_names": names}
    content = b"\x80\x02cxgboost.core\nBooster\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b."
    (tmp_path / "xgboost-model").write_bytes(content)

    assert ALGORITHM.load(tmp_path, None, OPTIONS).feature_names == expected


def test_pickle_with_a_damaged_booster_is_refused(tmp_path: Path) -> None:
    """C-061: whichever form its state has."""
    for handle in (b"CONFIG-offset:\0\0binf", b'{"Config": {}}', b"{L\0", b'{"Model', b""):
        state = {"handle": bytearray(handle), "feature_names": None}
        # Booster.__new__, the state, then BUILD: as protocol 2 writes an object with a state.
        content = b"\x80\x02cxgboost.core\nBooster\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b."
        (tmp_path / "xgboost-model").write_bytes(content)

        with pytest.raises(ModelLoadError, match="damaged"):
            ALGORITHM.load(tmp_path, None, OPTIONS)


def _ensemble(directory: Path, boosters: list[xgboost.Booster]) -> None:
    for index, booster in enumerate(boosters):
        (directory / f"xgboost-model-{index}").write_bytes(booster.save_raw("ubj"))


def test_several_models_predict_their_mean(tmp_path: Path) -> None:
    """Predicts the mean of the models of a k-fold job."""
    boosters = [_booster(seed) for seed in range(11)]
    _ensemble(tmp_path, boosters)

    model = ALGORITHM.load(tmp_path, None, OPTIONS)

    assert isinstance(model, XGBoostEnsemble)
    expected = np.mean([_predicted(booster) for booster in boosters], axis=0)
    np.testing.assert_allclose(model.predict(FEATURES), expected, atol=1e-6)


def test_several_models_vote_where_they_name_classes(tmp_path: Path) -> None:
    """Predicts the majority: the mean of class 0 and class 2 is not class 1."""
    labels = [RANDOM.integers(0, 3, 200).astype(np.float32) for _ in range(3)]
    given = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    boosters = [xgboost.train(given, xgboost.DMatrix(FEATURES, label), 3) for label in labels]
    _ensemble(tmp_path, boosters)

    predicted = ALGORITHM.load(tmp_path, None, OPTIONS).predict(FEATURES)

    votes = np.array([_predicted(booster) for booster in boosters]).astype(int)
    expected = [np.bincount(column, minlength=3).argmax() for column in votes.T]
    np.testing.assert_array_equal(predicted, expected)


def test_ensemble_can_be_switched_off(tmp_path: Path) -> None:
    """SAGEMAKER_INFERENCE_ENSEMBLE=false: the first by number, never by the directory's order."""
    boosters = [_booster(seed) for seed in range(3)]
    _ensemble(tmp_path, boosters)

    model = ALGORITHM.load(tmp_path, None, ServingOptions(ensemble=False))

    np.testing.assert_array_equal(model.predict(FEATURES), _predicted(boosters[0]))


def test_models_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """Two models of different width are no ensemble."""
    narrow = xgboost.train({}, xgboost.DMatrix(FEATURES[:, :2], FEATURES[:, 0]), 2)
    _ensemble(tmp_path, [_booster(), narrow])

    with pytest.raises(ModelLoadError, match="do not match"):
        ALGORITHM.load(tmp_path, None, OPTIONS)
