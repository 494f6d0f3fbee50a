"""Memory that predictions take and return, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import xgboost

RETENTION = """
import sys, threading
from pathlib import Path
import numpy as np
from container import allocator, cgroup
from container.algorithms.xgboost.serving.model import XGBoostModel
allocator.return_large_blocks()
records = np.zeros((1_000_000, 6), dtype=np.float32)
def predict():
    XGBoostModel(Path(sys.argv[1])).predict(records)
model = XGBoostModel(Path(sys.argv[1]))
model.predict(records[:10])
allocator.release_free_memory()
before = cgroup.resident_bytes()
model.predict(records)
deleter = threading.Thread(target=globals().pop, args=("model",))
deleter.start()
deleter.join()
allocator.release_free_memory()
print(cgroup.resident_bytes() - before)
"""


def test_large_prediction_leaves_nothing_when_its_model_is_gone(tmp_path: Path) -> None:
    """Also where another thread frees the model than the one that predicted."""
    file = tmp_path / "model.ubj"
    rows = np.random.default_rng(7).normal(size=(400, 6))
    parameters = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    xgboost.train(parameters, xgboost.DMatrix(rows, np.arange(400) % 3), 12).save_model(file)

    finished = subprocess.run(
        [sys.executable, "-c", RETENTION, str(file)],
        cwd=Path(__file__).parents[6],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(finished.stdout) < 4_000_000
