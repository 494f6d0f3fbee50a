"""Memory of four workers of this server with one big model: the whole tree against one copy."""

import dataclasses
import json
from pathlib import Path

from benchmarks.harness import load
from benchmarks.harness.model_files import Questions, big_model
from benchmarks.harness.running import running
from benchmarks.harness.servers import Server
from benchmarks.serving.results import Sharing

WORKERS = 4
_CONNECTIONS = 64  # so that every worker gets some
_LOAD_SECONDS = 5


def measure(server: Server, *, environment_dir: Path, models_dir: Path) -> Sharing:
    """Serve the big model, predict with every worker and weigh them.

    Raises:
        ServerError, LoadError: the server does not serve it.
    """
    model_dir = big_model(models_dir)
    questions = Questions(model_dir, (1, 100))
    variables = {**server.variables, "SAGEMAKER_MODEL_SERVER_WORKERS": str(WORKERS)}
    with running(
        dataclasses.replace(server, variables=variables),
        questions,
        environment_dir=environment_dir,
        model_dir=model_dir,
    ) as started:
        started.check(questions)
        load.run(
            started.url + server.route,
            server.format.content_type,
            [questions.body_file(server.format, n_rows) for n_rows in questions.row_counts],
            connections=_CONNECTIONS,
            seconds=_LOAD_SECONDS,
        )
        started.check(questions)
        return Sharing(
            workers=WORKERS,
            model_file=(model_dir / "model.ubj").stat().st_size,
            copy=json.loads((model_dir / "resident.json").read_text())["bytes"],
            pss=started.footprint().pss,
            start_seconds=started.start_seconds,
        )
