"""Arguments and variables of a training script; expected values are those of AWS's toolkit."""

import json
from pathlib import Path

import pytest

from container.opt_ml import OptMl
from container.settings import Settings
from tests.unit.train.conftest import Tree
from train.script_mode import script_request, sm_environment
from train.script_mode.sm_environment import ScriptInput

HYPERPARAMETERS = {
    "sagemaker_program": '"train.py"',
    "sagemaker_submit_directory": '"/opt/ml/code"',
    "sagemaker_job_name": '"job-1"',
    "sagemaker_region": '"eu-west-1"',
    "sagemaker_anything": "[1]",
    "_tuning_objective_metric": "validation:x",
    "max-depth": "3",
    "eta": "1e-3",
    "is_on": "true",
    "layers": "[1, 2]",
    "map": '{"b": 1, "a": "x"}',
    "nothing": "null",
    "text": '"quoted"',
    "raw": "plain text",
    "n": 7,
}
ARGUMENTS = [
    *("--eta", "0.001", "--is_on", "True", "--layers", "[1, 2]", "--map", "a=x,b=1"),
    *("--max-depth", "3", "-n", "7", "--nothing", "", "--raw", "plain text", "--text", "quoted"),
]


def _build(tree: Tree, environ: dict[str, str]) -> ScriptInput:
    opt_ml, settings = OptMl(tree.root), Settings.from_env(environ)
    request = script_request.read({"sagemaker_program": "train.py"}, settings)
    assert request is not None
    return sm_environment.build(
        opt_ml,
        settings,
        request,
        HYPERPARAMETERS,
        directory=tree.root / "code",
        environ=environ,
        n_gpus=2,
    )


def test_arguments_are_sorted_and_written_as_python_writes_them(tree: Tree) -> None:
    """Decodes JSON text once; control keys are not arguments (C-012, C-013)."""
    told = _build(tree, {})

    assert told.arguments == ARGUMENTS
    assert json.loads(told.environment["SM_USER_ARGS"]) == ARGUMENTS


def test_hyperparameters_are_variables(tree: Tree) -> None:
    """Names in upper case, otherwise as they are; values as compact JSON, text as it is."""
    environment = _build(tree, {}).environment

    assert environment["SM_HP_MAX-DEPTH"] == "3"
    assert environment["SM_HP_MAP"] == '{"a":"x","b":1}'
    assert environment["SM_HP_IS_ON"] == "true"
    assert environment["SM_HP_NOTHING"] == ""
    assert environment["SM_HP_TEXT"] == "quoted"
    assert json.loads(environment["SM_HPS"])["layers"] == [1, 2]
    assert environment["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_anything":[1]}'
    assert not [name for name in environment if "SAGEMAKER_PROGRAM" in name]


def test_paths_and_channels_are_variables(tree: Tree) -> None:
    """The names of channels are in upper case, every other character is kept."""
    tree.channel("train", {})
    tree.configure("inputdataconfig.json", {"train": {}, "v-01": {"ContentType": "text/csv"}})

    environment = _build(tree, {}).environment

    assert environment["SM_CHANNELS"] == '["train","v-01"]'
    assert environment["SM_CHANNEL_TRAIN"] == str(tree.root / "input/data/train")
    assert environment["SM_CHANNEL_V-01"] == str(tree.root / "input/data/v-01")
    assert environment["SM_MODEL_DIR"] == str(tree.root / "model")
    assert environment["SM_OUTPUT_DATA_DIR"] == str(tree.root / "output/data")
    assert environment["SM_INPUT_DATA_CONFIG"] == '{"train":{},"v-01":{"ContentType":"text/csv"}}'


def test_hosts_are_those_of_the_resource_config(tree: Tree) -> None:
    """Also with the three documented keys only (C-022)."""
    config = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    tree.configure("resourceconfig.json", config | {"network_interface_name": "eth1"})

    environment = _build(tree, {}).environment

    assert environment["SM_HOSTS"] == '["algo-1","algo-2"]'
    assert environment["SM_CURRENT_HOST"] == environment["CURRENT_HOST"] == "algo-2"
    assert environment["SM_NETWORK_INTERFACE_NAME"] == "eth1"
    assert environment["SM_IS_HETERO"] == "false"
    facts = json.loads(environment["SM_TRAINING_ENV"])
    assert (facts["is_master"], facts["master_hostname"]) == (False, "algo-1")
    assert "SM_TOPOLOGY" not in environment


def test_instance_groups_are_told(tree: Tree) -> None:
    """A heterogeneous cluster: the groups by name, and the hosts of this one."""
    groups = [
        {"instance_group_name": "a", "instance_type": "ml.m5.large", "hosts": ["algo-1"]},
        {"instance_group_name": "b", "instance_type": "ml.m5.xlarge", "hosts": ["algo-2"]},
    ]
    tree.configure(
        "resourceconfig.json",
        {
            "current_host": "algo-2",
            "hosts": ["algo-1", "algo-2"],
            "current_group_name": "b",
            "current_instance_type": "ml.m5.xlarge",
            "instance_groups": groups,
            "topology": [{"x": 1}],
        },
    )

    environment = _build(tree, {}).environment

    assert environment["SM_CURRENT_INSTANCE_GROUP"] == "b"
    assert environment["SM_CURRENT_INSTANCE_GROUP_HOSTS"] == '["algo-2"]'
    assert environment["SM_CURRENT_INSTANCE_TYPE"] == "ml.m5.xlarge"
    assert environment["SM_INSTANCE_GROUPS"] == '["a","b"]'
    assert json.loads(environment["SM_INSTANCE_GROUPS_DICT"])["a"] == groups[0]
    assert environment["SM_IS_HETERO"] == "true"
    assert environment["SM_TOPOLOGY"] == '[{"x":1}]'


def test_script_is_told_who_it_is(tree: Tree) -> None:
    """Module and entry point as the job names them, and the name of the job."""
    environment = _build(tree, {"TRAINING_JOB_NAME": "job-of-env"}).environment

    assert environment["SM_MODULE_NAME"] == "train"
    assert environment["SM_USER_ENTRY_POINT"] == "train.py"
    assert environment["SM_MODULE_DIR"] == str(tree.root / "code")
    assert environment["SAGEMAKER_JOB_NAME"] == "job-1"
    assert environment["SAGEMAKER_REGION"] == "eu-west-1"
    assert environment["SM_FRAMEWORK_MODULE"] == ""
    assert (environment["SM_NUM_GPUS"], environment["SM_NUM_NEURONS"]) == ("2", "0")
    assert json.loads(environment["SM_TRAINING_ENV"])["job_name"] == "job-of-env"


def test_environment_of_the_job_is_kept_and_our_modules_are_hidden(tree: Tree) -> None:
    """A script imports its neighbours first, and never a module of this container."""
    ours = str(Path(sm_environment.__file__).parents[2])
    (tree.root / "code" / "src").mkdir(parents=True)

    environment = _build(
        tree, {"MINE": "1", "PYTHONPATH": f"/mine:{ours}", "PYTHONSAFEPATH": "1"}
    ).environment

    code = tree.root / "code"
    assert environment["MINE"] == "1"
    assert environment["PYTHONPATH"] == f"{code}:{code / 'src'}:/mine"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert "PYTHONSAFEPATH" not in environment


@pytest.mark.parametrize(("name", "option"), [("a", "-a"), ("ab", "--ab"), ("a-b", "--a-b")])
def test_one_letter_has_one_dash(name: str, option: str) -> None:
    """As options of one letter are written."""
    assert sm_environment.to_arguments({name: 1}) == [option, "1"]
