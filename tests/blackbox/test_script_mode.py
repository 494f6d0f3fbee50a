"""The user's own training script from outside: as AWS's training toolkit runs it."""

import json
import re
import signal
import tarfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend, DockerBackend
from local_test.datasets import TabularDataset
from local_test.hosts import lay_out
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from tests.waiting import PATIENCE_SECONDS

PAGE = Path(__file__).parents[2] / "docs" / "script_mode.md"
SOURCES = "/opt/ml/input/data/code"
REPORT = """\
import json, os, pathlib, sys
import neighbour
told = {name: value for name, value in os.environ.items() if name.startswith("SM_")}
told["argv"], told["cwd"] = sys.argv, os.getcwd()
told["ours"] = [name for name in sys.modules if name.split(".")[0] in ("container", "xgboost")]
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], os.environ["SM_CURRENT_HOST"]).write_text(
    json.dumps(told)
)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model-of-" + os.environ["SM_CURRENT_HOST"]).touch()
"""


@pytest.fixture
def ml(tmp_path: Path) -> MlTree:
    return MlTree(tmp_path / "ml").create()


def _ask(
    ml: MlTree, files: Mapping[str, str], program: str = "train.py", **hyperparameters: str
) -> None:
    """Put the sources into the channel `code` and name the script as the SDK encodes it."""
    ml.write_channel("code", {name: text.encode() for name, text in files.items()})
    keys = {"sagemaker_program": program, "sagemaker_submit_directory": SOURCES}
    encoded = {name: json.dumps(value) for name, value in keys.items()}
    ml.write_hyperparameters(encoded | hyperparameters)


@pytest.mark.canary
def test_example_of_the_page_trains_and_serves(
    backend: Backend, ml: MlTree, cancer: TabularDataset
) -> None:
    """The script of docs/script_mode.md leaves a model that its inference script serves (C-104)."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    files = {text.splitlines()[0][2:]: text.encode() for kind, text in blocks if kind == "python"}
    hyperparameters = next(json.loads(text) for kind, text in blocks if kind == "json")
    assert list(files) == ["train.py", "inference.py"]
    ml.write_channel("code", files)
    ml.write_channel("train", {"train.csv": cancer.train}, content_type="text/csv")
    ml.write_hyperparameters(hyperparameters)

    run = backend.run_training(ml)

    assert run.exit_code == 0, run.output
    accuracy = re.search(r"train:accuracy=(\S+)", run.output)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.97
    assert "model.joblib" in ml.model_files()
    assert "code/inference.py" in ml.model_files()
    with backend.start_server(ml) as server:
        answer = invoke(server.url, cancer.payload, content_type="text/csv")
    predicted = np.array(json.loads(answer.body), dtype=float)
    labels = [float(line.split(b",")[0]) for line in cancer.validation.splitlines()]
    assert np.mean((predicted > 0.5) == labels) > 0.9


@pytest.mark.canary
def test_script_is_given_arguments_and_environment(backend: Backend, ml: MlTree) -> None:
    """Hyperparameters are sorted and decoded, paths told, neighbours found (C-109, C-012)."""
    _ask(
        ml,
        {"train.py": REPORT, "neighbour.py": ""},
        eta="0.5",
        is_on="true",
        layers="[1, 2]",
        n='"7"',
        _tuning_objective_metric="validation:x",
    )

    run = backend.run_training(ml, environment={"TRAINING_JOB_NAME": "job-1"})

    assert run.exit_code == 0, run.output
    told = json.loads((ml.output_data_dir / "algo-1").read_text())
    arguments = ["--eta", "0.5", "--is_on", "True", "--layers", "[1, 2]", "-n", "7"]
    assert told["argv"] == ["train.py", *arguments]
    assert json.loads(told["SM_USER_ARGS"]) == arguments
    assert json.loads(told["SM_HPS"]) == {"eta": 0.5, "is_on": True, "layers": [1, 2], "n": "7"}
    assert told["SM_CHANNEL_CODE"] == backend.path_inside(ml, ml.channel_dir("code"))
    assert told["SM_MODEL_DIR"] == backend.path_inside(ml, ml.model_dir)
    assert told["cwd"] == backend.path_inside(ml, ml.root / "code")
    assert json.loads(told["SM_TRAINING_ENV"])["job_name"] == "job-1"
    assert (told["SM_HOSTS"], told["SM_CURRENT_HOST"]) == ('["algo-1"]', "algo-1")
    assert told["ours"] == []
    assert ml.model_files() == ("model-of-algo-1",)
    assert ml.failure_reason() is None


def test_archive_of_the_sdk(backend: Backend, ml: MlTree) -> None:
    """With enable_network_isolation the SDK sends sourcedir.tar.gz as the channel `code`."""
    content = b"import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').close()"
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(content)
        archive.addfile(member, BytesIO(content))
    ml.write_channel("code", {"sourcedir.tar.gz": buffer.getvalue()})
    ml.write_hyperparameters({"sagemaker_submit_directory": f'"{SOURCES}/sourcedir.tar.gz"'})

    run = backend.run_training(ml, environment={"SAGEMAKER_PROGRAM": "train.py"})

    assert run.exit_code == 0, run.output
    assert ml.model_files() == ("m",)


def test_address_in_s3_is_refused_with_the_remedy(backend: Backend, ml: MlTree) -> None:
    """Refuses it instead of training the built-in model, which would be a wrong answer (C-104)."""
    ml.write_hyperparameters(
        {
            "num_round": "5",
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": '"s3://bucket/sourcedir.tar.gz"',
        }
    )

    assert backend.run_training(ml).exit_code == 1

    reason = ml.failure_reason() or ""
    assert "'sagemaker_submit_directory'='s3://bucket/sourcedir.tar.gz'" in reason
    assert "set enable_network_isolation=True" in reason
    assert ml.model_files() == ()


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        (
            "def fit():\n    raise ValueError('no column x\\nat all')\nfit()",
            1,
            "ValueError: no col",
        ),
        ("import sys\nprint('last words', file=sys.stderr)\nsys.exit(42)", 42, "last words"),
        ("import sys; sys.exit(3)", 3, "it wrote nothing to stderr"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "it wrote nothing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "killed, peak "),
    ],
)
def test_failure_has_the_exit_code_and_the_last_words(
    backend: Backend, ml: MlTree, script: str, code: int, reason: str
) -> None:
    """The cause comes first, then the end of stderr (C-110, C-027, C-028)."""
    _ask(ml, {"train.py": script})

    run = backend.run_training(ml)

    assert run.exit_code == code
    failure = ml.failure_reason() or ""
    assert failure.startswith(reason)
    assert f"the script 'train.py' ended with exit code {code}" in failure.splitlines()[0]
    if "fit()" in script:
        assert failure.splitlines()[1].startswith("Traceback")
        assert "no column x" in run.output


def test_failure_file_of_the_script_is_kept(backend: Backend, ml: MlTree) -> None:
    """It knows more than its exit code says (C-110)."""
    script = "import os, sys\nopen(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('mine')\n"
    _ask(ml, {"train.py": f"{script}sys.exit(2)"})

    assert backend.run_training(ml).exit_code == 2
    assert ml.failure_reason() == "mine"


# A script in Python that saves at SIGTERM, run by itself and by a shell script that waits for it.
SAVES = """\
import os, signal, sys, time
def stop(*_):
    time.sleep(0.5)
    open(os.environ["SM_MODEL_DIR"] + "/checkpoint", "w").write("whole")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("program", "code"), [("train.py", 0), ("train.sh", 143)])
def test_sigterm_reaches_the_script_and_its_model_stays(
    backend: Backend, ml: MlTree, program: str, code: int
) -> None:
    """A shell does not pass it on, and the job waits for what the shell has started (C-029)."""
    _ask(ml, {"train.py": SAVES, "train.sh": "#!/bin/sh\npython3 train.py\necho end\n"}, program)
    with backend.start_training(ml) as job:
        job.wait_for_output("ready")
        job.send_signal(signal.SIGTERM)
        finished = job.finish(PATIENCE_SECONDS)

    assert finished.exit_code == code, finished.output
    assert (ml.model_dir / "checkpoint").read_text() == "whole"
    assert ml.failure_reason() is None


def test_shell_script_has_the_same_arguments_and_environment(backend: Backend, ml: MlTree) -> None:
    """Other languages: any executable, also one whose executable bit was lost."""
    script = 'printf "%s|" "$0" "$@" >"$SM_MODEL_DIR/told"\nexit 7\n'
    _ask(ml, {"jobs/train.sh": script}, "jobs/train.sh", text="two  words $HOME", a="1")

    run = backend.run_training(ml)

    assert run.exit_code == 7, run.output
    told = (ml.model_dir / "told").read_text()
    assert told == "./jobs/train.sh|-a|1|--text|two  words $HOME|"


def test_processes_that_the_script_left_are_ended(backend: Backend, ml: MlTree) -> None:
    """A helper that runs on holds neither the job nor its output."""
    _ask(ml, {"train.sh": "sleep 600 &\necho done\n"}, "train.sh")

    run = backend.run_training(ml, timeout_seconds=PATIENCE_SECONDS)

    assert run.exit_code == 0
    assert "model_directory_empty" in run.output


@pytest.mark.slow
def test_each_of_several_hosts_runs_the_script(backend: Backend, tmp_path: Path) -> None:
    """Each is told who it is and who the others are (C-023)."""
    ml = MlTree(tmp_path / "all").create()
    _ask(ml, {"train.py": REPORT, "neighbour.py": ""})
    names = backend.host_names(2)
    trees = lay_out(ml, names, tmp_path / "hosts")

    with backend.start_training_on_hosts(trees) as running:
        runs = running.finish(PATIENCE_SECONDS)

    assert [run.exit_code for run in runs.values()] == [0, 0], runs
    for name, tree in trees.items():
        told = json.loads((tree.output_data_dir / name).read_text())
        assert json.loads(told["SM_HOSTS"]) == list(names)
        assert told["SM_CURRENT_HOST"] == name
        assert tree.model_files() == (f"model-of-{name}",)


def test_requirements_that_cannot_be_installed_fail_the_job(backend: Backend, ml: MlTree) -> None:
    """Says which package and what to do; the script does not start."""
    requirements = "--no-index\nno-such-package-of-anybody==1\n"
    _ask(ml, {"train.py": REPORT, "requirements.txt": requirements})

    assert backend.run_training(ml).exit_code == 1

    reason = ml.failure_reason() or ""
    assert reason.startswith("requirements.txt cannot be installed: ")
    assert "image made from this one" in reason
    assert ml.model_files() == ()


def test_requirements_that_are_there_need_no_network(backend: Backend, ml: MlTree) -> None:
    """A package that the image has is not looked for in an index."""
    _ask(
        ml,
        {"train.py": REPORT, "neighbour.py": "", "needs.txt": "--no-index\nnumpy\n"},
        sagemaker_requirements='"needs.txt"',
    )

    run = backend.run_training(ml)

    assert run.exit_code == 0, ml.failure_reason()
    assert "requirements_installing" in run.output


# Does what the shell script of the SDK's ModelTrainer does.
DRIVER = """\
set -e
python=$(command -v python3 || command -v python)
pip=$(command -v pip3 || command -v pip)
"$pip" --version
export SM_MODEL_DIR=/opt/ml/model
cd /opt/ml/input/data/code
"$python" train.py
"""


@pytest.mark.docker
def test_entry_point_of_the_sdks_model_trainer(slim_image: str, ml: MlTree) -> None:
    """The shell script of the channel `sm_drivers` finds bash, Python and pip, and a script its
    neighbour (C-037).
    """
    script = "import os, neighbour; open(os.environ['SM_MODEL_DIR'] + '/model', 'w').close()"
    ml.write_channel("code", {"train.py": script.encode(), "neighbour.py": b""})
    ml.write_channel("sm_drivers", {"sm_train.sh": DRIVER.encode()})
    file = "/opt/ml/input/data/sm_drivers/sm_train.sh"
    backend = DockerBackend(slim_image, ("--entrypoint", "/bin/bash", "--network", "none"))

    run = backend.start_program(ml, ["-c", f"bash {file}"]).finish(PATIENCE_SECONDS)

    assert run.exit_code == 0, run.output
    assert ml.model_files() == ("model",)


def test_wheel_among_the_sources_is_installed_without_a_network(
    backend: Backend, ml: MlTree
) -> None:
    """The remedy for a job that has no network (C-007)."""
    if not isinstance(backend, DockerBackend):
        pytest.skip("a process would install it into the environment of the tests")
    wheel = BytesIO()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("of_mine.py", "VALUE = 3\n")
        information = "of_mine-1.dist-info"
        file.writestr(
            f"{information}/METADATA", "Metadata-Version: 2.1\nName: of-mine\nVersion: 1\n"
        )
        file.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{information}/RECORD", "")
    files = {
        "train.py": b"import of_mine, sys; sys.exit(of_mine.VALUE)",
        "requirements.txt": b"./wheels/of_mine-1-py3-none-any.whl\n",
        "wheels/of_mine-1-py3-none-any.whl": wheel.getvalue(),
    }
    ml.write_channel("code", files)
    ml.write_hyperparameters({"sagemaker_program": "train.py"})

    run = DockerBackend(backend.image, ("--network", "none")).run_training(ml)

    assert run.exit_code == 3, run.output
