"""Many models in one server: the `/models` API as the platform calls it, and models to load."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import xgboost

from local_test.backends import Backend
from local_test.invoke import Response, send
from local_test.ml_tree import MlTree
from local_test.programs import RunningServer

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}
# Answers after as many seconds as the body says; the log says that it has begun.
SLEEPS = """
    import time

    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        print("sleeps", float(data), flush=True)
        time.sleep(float(data))
        return "slept"
"""


@dataclass(frozen=True)
class Models:
    """The API of one server, and the directory that it may load from."""

    server: RunningServer
    backend: Backend
    ml: MlTree

    def directory(self, name: str) -> Path:
        """Return the directory where the platform unpacks an archive, for a name that can
        be a directory's.
        """
        return self.ml.root / "models" / name / "model"

    def url(self, directory: Path) -> str:
        return self.backend.path_inside(self.ml, directory)

    def load(self, name: str, directory: Path | None = None) -> Response:
        url = self.url(directory or self.directory(name))
        return self.post({"model_name": name, "url": url})

    def post(self, content: object) -> Response:
        """`POST /models` with any content."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return send(self.server.url, "POST", "/models", body, headers=JSON)

    def unload(self, name: str) -> Response:
        return send(self.server.url, "DELETE", f"/models/{quote(name, safe='')}")

    def describe(self, name: str) -> Response:
        return send(self.server.url, "GET", f"/models/{quote(name, safe='')}")

    def page(self, query: str = "") -> Response:
        """`GET /models` with any query."""
        return send(self.server.url, "GET", f"/models{query}")

    def names(self) -> list[str]:
        """Every model of the list, page by page."""
        names: list[str] = []
        query = ""
        while True:
            page = json.loads(self.page(query).body)
            names += [item["modelName"] for item in page["models"]]
            if not page.get("nextPageToken") or not page["models"]:
                return names
            query = f"?next_page_token={quote(page['nextPageToken'])}"

    def invoke(
        self,
        name: str,
        body: bytes = b"1,2\n",
        *,
        headers: Mapping[str, str] = CSV,
        timeout_seconds: float = 60,
    ) -> Response:
        return send(
            self.server.url,
            "POST",
            f"/models/{quote(name, safe='')}/invoke",
            body,
            headers=headers,
            timeout_seconds=timeout_seconds,
        )

    def write(self, name: str, script: str, **files: str) -> Path:
        """Write a model that is code only; `files` are modules beside the script."""
        code_dir = self.directory(name) / "code"
        code_dir.mkdir(parents=True, exist_ok=True)
        for module, text in {"inference": script, **files}.items():
            (code_dir / f"{module}.py").write_text(textwrap.dedent(text))
        return self.directory(name)

    def write_tree(self, name: str, slope: float) -> Path:
        """Write a model of XGBoost's, two features wide; another slope has other answers."""
        directory = self.directory(name)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "xgboost-model").write_bytes(tree(slope).save_raw("ubj"))
        return directory


def tree(slope: float) -> xgboost.Booster:
    """One deep tree that has learned `slope * first feature`."""
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    parameters = {"eta": 1, "base_score": 0, "lambda": 0, "max_depth": 10, "nthread": 1}
    return xgboost.train(parameters, xgboost.DMatrix(rows, slope * rows[:, 0]), 1)


def predicted(slope: float, row: list[float]) -> float:
    """Return XGBoost's own prediction."""
    return float(tree(slope).predict(xgboost.DMatrix(np.array([row], np.float32)))[0])


def score(response: Response) -> float:
    """The one prediction of an answer in CSV."""
    assert response.status == 200, response.text
    return float(response.text)
