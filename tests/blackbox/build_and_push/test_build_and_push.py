"""Decisions of build_and_push.sh, with a fake `docker` that only records its calls."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.blackbox.build_and_push.conftest import (
    DOCKER_MANIFEST,
    RECORDING_DOCKER,
    Script,
    calls,
    tag_of,
    write_program,
)

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ACCESS_DENIED = "An error occurred (AccessDeniedException): User is not authorized"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "IMAGE_NAME is missing"),
        (("one", "two"), "one IMAGE_NAME is needed; given: 'one' and 'two'"),
        (("My_Model",), "IMAGE_NAME 'My_Model' is not a repository name"),
        (("--target", "tiny", "model"), "--target 'tiny' is not known; accepted: full, slim"),
        (("--accelerator", "tpu", "model"), "'tpu' is not known; accepted: cpu, gpu"),
        (("--platform", "linux/riscv64", "model"), "accepted: linux/amd64, linux/arm64"),
        (("model", "--target"), "--target needs a value"),
        (("--latest", "model"), "unknown option '--latest'"),
    ],
)
def test_wrong_arguments_are_refused(
    script: Script, state: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    """The message names the argument and the accepted ones, before anything else is done."""
    result = script(*arguments)

    assert result.returncode == 1
    assert complaint in result.stderr
    assert calls(state) == []


def test_help_names_every_option_and_variable(script: Script) -> None:
    """--help is the manual, and exits with 0."""
    result = script("--help")

    assert result.returncode == 0
    for word in ("--target", "--platform", "--allow-dirty", "--dry-run", "ECR_REGISTRY"):
        assert word in result.stdout


def test_dirty_tree_is_refused_by_name(script: Script, checkout: Path, state: Path) -> None:
    """An immutable tag that names a commit never holds other files."""
    (checkout / "serve" / "new.py").touch()

    result = script("model")

    assert result.returncode == 1
    assert "serve/new.py" in result.stderr
    assert "--allow-dirty" in result.stderr
    assert not [call for call in calls(state) if call.startswith("aws")]


def test_dirty_tree_is_built_on_request_under_a_tag_of_its_own(
    script: Script, checkout: Path, state: Path
) -> None:
    """The tag of a dirty build cannot be taken for the commit's."""
    (checkout / "serve" / "new.py").touch()

    script("--allow-dirty", "model")

    [build] = [call for call in calls(state) if call.startswith("docker build ")]
    assert re.search(rf"model:{re.escape(tag_of(checkout))}-dirty-\d+ ", build)


@pytest.mark.canary
def test_dry_run_prints_every_command_and_runs_none(
    script: Script, checkout: Path, state: Path
) -> None:
    """The steps can be read, in their order, before any of them happens."""
    result = script("--dry-run", "--target", "slim", "model")

    assert result.returncode == 0
    assert [call for call in calls(state) if call != "docker buildx version"] == []
    expected = (
        "aws configure get region",
        "aws .* sts get-caller-identity",
        "aws .* ecr describe-repositories --repository-names model",
        "aws .* ecr create-repository .* scanOnPush=true --image-tag-mutability IMMUTABLE",
        f"aws .* ecr describe-images .* imageTag={tag_of(checkout)}-slim",
        "get-login-password | docker login --username AWS --password-stdin",
        "docker build .*--platform linux/amd64 --target slim",
        "scripts/smoke_test.sh",
        "docker push",
        "aws .* ecr describe-images",
    )
    position = 0
    for step in expected:
        found = re.compile(step.replace("|", r"\|")).search(result.stdout, position)
        assert found, f"{step!r} is missing, or out of order, in:\n{result.stdout}"
        position = found.end()


@pytest.mark.parametrize("missing", ["aws", "docker", "git"])
def test_missing_tool_is_named(
    script: Script, programs: Path, tmp_path: Path, state: Path, missing: str
) -> None:
    """Each tool that is not there is named, with where to get it."""
    path = tmp_path / "path"
    path.mkdir()
    for tool in ("bash", "cat", "dirname", "env", "git", "mktemp", "rm", "sed", "sh", "timeout"):
        (path / tool).symlink_to(str(shutil.which(tool)))
    for tool in ("aws", "docker"):
        (path / tool).symlink_to(programs / tool)
    (path / missing).unlink()

    result = script("model", PATH=str(path))

    assert result.returncode == 1
    assert f"no '{missing}' on PATH" in result.stderr
    assert not [call for call in calls(state) if call.startswith("aws")]


def test_engine_that_does_not_answer_is_named(script: Script, programs: Path) -> None:
    """A client without an engine is not taken for one."""
    write_program(programs / "docker", "#!/bin/sh\nexit 1\n")

    result = script("model")

    assert result.returncode == 1
    assert "the Docker engine does not answer" in result.stderr


def test_missing_region_is_named(script: Script) -> None:
    """Without a region the message says how to set one."""
    result = script("model", FAKE_AWS_REGION="")

    assert result.returncode == 1
    assert "no AWS region; set AWS_REGION" in result.stderr


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        ("sts get-caller-identity", "Unable to locate credentials", "no AWS credentials"),
        ("sts get-caller-identity", "(ExpiredToken) the token", "the AWS session has expired"),
        ("sts get-caller-identity", "(InvalidClientTokenId)", "does not know these credentials"),
        ("ecr describe-repositories", ACCESS_DENIED, "lacks the permission ecr:Describe"),
        ("ecr create-repository", ACCESS_DENIED, "lacks the permission ecr:CreateRepository"),
        ("ecr describe-images", ACCESS_DENIED, "lacks the permission ecr:DescribeImages"),
        ("ecr get-login-password", ACCESS_DENIED, "permission ecr:GetAuthorizationToken"),
        ("ecr create-repository", "the wire is cut", "it says: the wire is cut"),
    ],
)
def test_refusal_of_aws_is_explained_before_the_build(
    script: Script, state: Path, call: str, error: str, complaint: str
) -> None:
    """Credentials and permissions are found wanting in seconds, not after the build."""
    result = script("model", FAKE_AWS_ERRORS=json.dumps({call: error}))

    assert result.returncode == 1
    assert complaint in result.stderr
    assert not [call for call in calls(state) if call.startswith("docker build ")]


def test_existing_tag_is_refused_before_the_build(
    script: Script, checkout: Path, state: Path
) -> None:
    """Tags are immutable: the digest that has it is named instead."""
    images = {tag_of(checkout): f"sha256:1234\t{DOCKER_MANIFEST}"}

    result = script("model", FAKE_AWS_IMAGES=json.dumps(images))

    assert result.returncode == 1
    assert f"the tag '{tag_of(checkout)}' exists already (sha256:1234)" in result.stderr
    assert not [call for call in calls(state) if call.startswith("docker build ")]


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        ("denied: User is not authorized to perform: ecr:PutImage", "needs ecr:Batch"),
        ("tag invalid: it cannot be overwritten: immutable", "somebody else pushed the tag"),
        ("connection reset by peer", "the push failed"),
    ],
)
def test_refused_push_is_explained(script: Script, error: str, complaint: str) -> None:
    """The engine's message is shown, with what it asks the user to do."""
    result = script("--skip-smoke-test", "model", FAKE_AWS_PUSH_ERROR=error)

    assert result.returncode == 1
    assert error in result.stderr
    assert complaint in result.stderr


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST])
def test_manifest_that_sagemaker_refuses_is_an_error(
    script: Script, checkout: Path, programs: Path, state: Path, media_type: str
) -> None:
    """An OCI index or manifest fails here, not at the endpoint's start."""
    pushed = state / "pushed"
    write_program(programs / "docker", RECORDING_DOCKER + f'[ "$1" != push ] || touch {pushed}\n')
    aws = programs / "aws"
    images = json.dumps({tag_of(checkout): f"sha256:1234\t{media_type}"})
    after_push = f"[ ! -e {pushed} ] || export FAKE_AWS_IMAGES='{images}'\nexec"
    write_program(aws, aws.read_text().replace("exec", after_push))

    result = script("--skip-smoke-test", "model")

    assert result.returncode == 1
    assert media_type in result.stderr
    assert f"SageMaker accepts {DOCKER_MANIFEST} only" in result.stderr
    assert result.stdout == ""
