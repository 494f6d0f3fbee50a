"""The image itself: how it starts, as whom, and with how little."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import DockerBackend
from local_test.datasets import TabularDataset
from local_test.docker_engine import docker
from local_test.invoke import invoke, ping
from local_test.ml_tree import MlTree
from tests.blackbox.conftest import Trained
from tests.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.docker

IMAGES = ["image", "slim_image"]


@pytest.fixture(params=IMAGES)
def any_image(request: pytest.FixtureRequest) -> str:
    """The full image, then the slim one."""
    name: str = request.getfixturevalue(request.param)
    return name


def _config(image: str) -> dict[str, object]:
    config: dict[str, object] = json.loads(docker("image", "inspect", image))[0]["Config"]
    return config


def test_entry_point_is_in_exec_form(any_image: str) -> None:
    """PID 1 has neither shell nor init program in front, and no CMD (C-001, C-003, C-004)."""
    config = _config(any_image)

    assert config["Entrypoint"] == ["python", "-P", "-m", "container"]
    assert not config["Cmd"]


def test_labels_announce_what_the_image_can_do(any_image: str) -> None:
    """SageMaker's labels and the OCI labels are set (C-010)."""
    labels = _config(any_image)["Labels"]

    assert isinstance(labels, dict)
    prefix = "com.amazonaws.sagemaker.capabilities"
    assert labels[f"{prefix}.accept-bind-to-port"] == "true"
    assert labels[f"{prefix}.multi-models"] == "true"
    for key in ("title", "description", "version", "revision", "licenses", "base.name"):
        assert labels[f"org.opencontainers.image.{key}"]


def test_slim_image_is_small(slim_image: str) -> None:
    """The slim image has at most 500 MB."""
    assert int(docker("image", "inspect", "--format", "{{.Size}}", slim_image)) <= 500 * 10**6


def test_full_image_has_every_package(image: str) -> None:
    """All that the project was asked to have can be imported or started."""
    packages = "xgboost, tensorflow, keras, sklearn, lightgbm, onnxruntime, flask, gunicorn, mms"
    docker("run", "--rm", "--entrypoint", "python", image, "-c", f"import {packages}")
    docker("run", "--rm", "--entrypoint", "java", image, "-version")


def test_no_compiler_is_left_in_the_image(any_image: str) -> None:
    """Compilers stay in the build stage."""
    script = "command -v gcc cc g++ make && exit 1 || exit 0"

    docker("run", "--rm", "--entrypoint", "/bin/sh", any_image, "-c", script)


def test_nothing_is_baked_below_opt_ml(any_image: str) -> None:
    """The platform's mount would hide it (C-006)."""
    found = docker("run", "--rm", "--entrypoint", "/bin/sh", any_image, "-c", "ls -A /opt")

    assert "ml" not in found.split()


SERVERLESS = (
    *("--user", "12345:0", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--env", "SAGEMAKER_MODEL_SERVER_WORKERS=1"),
)


# The images differ in packages alone: the full one has the case that has most of the others in it.
@pytest.mark.parametrize(
    ("any_image", "options"),
    [
        pytest.param("slim_image", ("--user", "12345:0"), id="arbitrary-uid"),
        pytest.param("slim_image", ("--user", "12345:54321"), id="arbitrary-uid-and-gid"),
        pytest.param("slim_image", ("--read-only", "--tmpfs", "/tmp"), id="read-only-root"),
        pytest.param("slim_image", ("--network", "none"), id="no-network"),
        pytest.param("slim_image", SERVERLESS, id="serverless"),
        pytest.param("image", SERVERLESS, id="full-serverless"),
    ],
    indirect=["any_image"],
)
def test_train_and_serve_with_few_rights(
    any_image: str, ml: MlTree, options: tuple[str, ...], cancer: TabularDataset
) -> None:
    """Other users, a read-only root, no network (C-005, C-007, C-039, C-068)."""
    for directory in (ml.model_dir, ml.root / "output", ml.output_data_dir):
        directory.chmod(0o777)
    ml.write_hyperparameters({"objective": "binary:logistic", "num_round": "5", "nthread": "1"})
    backend = DockerBackend(any_image, options)

    run = backend.run_training(ml)

    assert run.exit_code == 0, run.output
    reachable = DockerBackend(
        any_image, tuple(o for o in options if o not in ("--network", "none"))
    )
    with reachable.start_server(ml) as server:
        assert invoke(server.url, cancer.payload).status == 200


ASK_FROM_INSIDE = """
import json, sys, time, urllib.request
url = "http://127.0.0.1:8080"
for _ in range(1200):
    try:
        assert urllib.request.urlopen(url + "/ping").status == 200
        break
    except OSError:
        time.sleep(0.1)
body = sys.argv[1].encode()
request = urllib.request.Request(url + "/invocations", body, {"Content-Type": "text/csv"})
print(json.dumps(urllib.request.urlopen(request).read().decode()))
"""


def test_serve_without_a_network(
    any_image: str, trained: Trained, cancer: TabularDataset, features: np.ndarray
) -> None:
    """Serves predictions without a network, asked from inside (C-007)."""
    rows = b"".join(cancer.payload.splitlines(keepends=True)[:5]).decode()
    backend = DockerBackend(any_image, ("--network", "none"))
    with backend.start_server(trained.ml, wait_until_ready=False) as server:
        answer = docker("exec", server.name, "python", "-c", ASK_FROM_INSIDE, rows)

    predicted = [float(line) for line in json.loads(answer).split()]
    np.testing.assert_allclose(predicted, trained.expected(features)[:5], atol=1e-6)


def test_empty_directory_over_opt_ml(any_image: str, tmp_path: Path) -> None:
    """Both verbs start, and say what is missing (C-006)."""
    empty = MlTree(tmp_path / "empty")
    empty.root.mkdir()
    backend = DockerBackend(any_image)

    assert backend.run_training(empty).exit_code == 1
    assert "'num_round': is required" in (empty.failure_reason() or "")
    run = backend.start_program(empty, ["serve"]).finish(PATIENCE_SECONDS)
    assert run.exit_code == 1
    assert "there is no directory /opt/ml/model" in run.output


@pytest.mark.parametrize("command", ["train", "python -m container train"])
def test_replaced_entry_point_still_finds_the_program(
    any_image: str, ml: MlTree, command: str
) -> None:
    """ContainerEntrypoint with /bin/sh, and from any working directory (C-037)."""
    backend = DockerBackend(any_image, ("--entrypoint", "/bin/sh", "--workdir", "/"))

    run = backend.start_program(ml, ["-c", command]).finish(120)

    assert run.exit_code == 0, run.output
    assert "xgboost-model" in ml.model_files()


def test_decoys_in_the_working_directory_are_not_run(any_image: str, ml: MlTree) -> None:
    """A user's train.py, serve.py and container.py beside the process do not shadow ours."""
    decoys = ml.root / "code"
    decoys.mkdir()
    for name in ("train", "serve", "container", "xgboost", "json"):
        (decoys / f"{name}.py").write_text("raise SystemExit('the decoy was run')\n")
    backend = DockerBackend(any_image, ("--workdir", "/opt/ml/code"))

    run = backend.run_training(ml)

    assert run.exit_code == 0, run.output


def test_pid_1_is_the_program_itself(any_image: str, trained: Trained) -> None:
    """Nothing stands between the platform's SIGTERM and the program (C-003)."""
    with DockerBackend(any_image).start_server(trained.ml) as server:
        command = Path(f"/proc/{server.process_id}/cmdline").read_bytes().split(b"\0")

        assert command[1:5] == [b"-P", b"-m", b"container", b"serve"]


def test_two_copies_in_one_network_namespace(any_image: str, trained: Trained) -> None:
    """Containers of a pipeline share an address and differ by port (C-092)."""
    first = DockerBackend(any_image, ("--publish", "127.0.0.1::9002"))
    with first.start_server(trained.ml, environment={"SAGEMAKER_BIND_TO_PORT": "9001"}) as one:
        second = DockerBackend(any_image, ("--network", f"container:{one.name}"))
        environment = {"SAGEMAKER_BIND_TO_PORT": "9002"}
        with second.start_server(
            trained.ml, environment=environment, wait_until_ready=False
        ) as two:
            two.wait_for_output("Booting worker")
            url = f"http://127.0.0.1:{docker('port', one.name, '9002').rpartition(':')[2].strip()}"

            def is_ready() -> bool:
                with contextlib.suppress(OSError):  # the engine's proxy is there before the server
                    return ping(url).status == 200
                return False

            wait_for(is_ready)
            assert ping(one.url).status == 200
