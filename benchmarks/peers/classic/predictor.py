"""The classic sample: a Flask application that reads CSV with pandas."""

import io
import os

import flask
import pandas as pd
import xgboost

app = flask.Flask(__name__)


class ScoringService:
    """Holds the model of this process; it is loaded when it is first asked for."""

    model: xgboost.Booster | None = None

    @classmethod
    def get_model(cls) -> xgboost.Booster:
        if cls.model is None:
            cls.model = xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])
        return cls.model


@app.route("/ping", methods=["GET"])
def ping() -> flask.Response:
    status = 200 if ScoringService.get_model() is not None else 404
    return flask.Response("\n", status=status, mimetype="application/json")


@app.route("/invocations", methods=["POST"])
def invocations() -> flask.Response:
    if flask.request.content_type != "text/csv":
        message = "This predictor only supports CSV data"
        return flask.Response(message, status=415, mimetype="text/plain")
    data = pd.read_csv(io.StringIO(flask.request.data.decode()), header=None)
    predictions = ScoringService.get_model().inplace_predict(data.to_numpy("float32"))
    out = io.StringIO()
    pd.DataFrame({"results": predictions}).to_csv(out, header=False, index=False)
    return flask.Response(out.getvalue(), mimetype="text/csv")
