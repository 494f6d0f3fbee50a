"""build_and_push.sh for real: it builds, runs and pushes to a registry on loopback."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_test.docker_engine import docker
from tests.blackbox.build_and_push import fake_aws
from tests.blackbox.build_and_push.conftest import (
    DOCKER_MANIFEST,
    Script,
    git,
    tag_of,
    write_program,
)
from tests.waiting import PATIENCE_SECONDS

# bcrypt of fake_aws.PASSWORD
HTPASSWD = f"{fake_aws.USER}:$2b$04$8ZXZKymHPMbV1HLFCX.wfOmrlYh9hIBC43cCHnmltkO7dhHePYLD."
REGISTRY_CONFIGURATION = """\
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {directory}/data}}}}
http: {{addr: "127.0.0.1:0"}}
auth: {{htpasswd: {{realm: fake, path: {directory}/htpasswd}}}}
"""


@pytest.fixture
def registry(slim_image: str, tmp_path: Path) -> Iterator[str]:
    """A registry of its own on a free port, with the password that the fake AWS CLI prints."""
    if shutil.which("docker-registry") is None:
        problem = "no 'docker-registry' on PATH; on Debian: apt-get install docker-registry"
        if os.environ.get("BYOA_REQUIRE_DOCKER") == "1":
            pytest.fail(f"BYOA_REQUIRE_DOCKER=1, but there is {problem}")
        pytest.skip(f"there is {problem}")
    directory = tmp_path / "registry"
    directory.mkdir()
    (directory / "htpasswd").write_text(HTPASSWD)
    configuration = directory / "configuration.yml"
    configuration.write_text(REGISTRY_CONFIGURATION.format(directory=directory))
    log = directory / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["docker-registry", "serve", configuration], stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield wait_for_address(log)
        finally:
            process.kill()
    shutil.rmtree(directory)


def wait_for_address(log: Path) -> str:
    """Return the address that the registry says it listens on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the registry does not listen:\n{log.read_text()}")


@pytest.fixture
def real_script(script: Script, programs: Path, registry: str, tmp_path: Path) -> Iterator[Script]:
    """The script with the real engine and registry; images that it made are removed."""
    (programs / "docker").unlink()  # the fake; the real client is further down the PATH
    variables = {"FAKE_AWS_REGISTRY": registry, "FAKE_AWS_IMAGES": "null", "BUILD_NETWORK": "host"}
    # The login must not reach the user's configuration, which also says where the engine is.
    endpoint = "{{.Endpoints.docker.Host}}"
    variables["DOCKER_HOST"] = docker("context", "inspect", "--format", endpoint)
    variables["DOCKER_CONFIG"] = str(tmp_path / "docker")
    if "BASE_IMAGE" in os.environ:
        variables["BASE_IMAGE"] = os.environ["BASE_IMAGE"]

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return script("--target", "slim", *arguments, **{**variables, **more})

    yield run
    names = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    if made := [name for name in names if name.startswith(f"{registry}/")]:
        docker("rmi", "--force", *made)


def containers_of(image: str) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}")


@pytest.mark.docker
@pytest.mark.slow
def test_image_is_tried_pushed_and_named(
    real_script: Script, checkout: Path, state: Path, registry: str
) -> None:
    """The printed digest is in the registry, as one image manifest of Docker's own type."""
    tag = f"{tag_of(checkout)}-slim"

    result = real_script("team/model")

    assert result.returncode == 0, result.stderr
    assert "predictions are right" in result.stderr
    digest, media_type = image_in_registry(registry, "team/model", tag)
    assert media_type == DOCKER_MANIFEST
    assert result.stdout.splitlines() == [
        f"digest: {digest}",
        f"uri:    {registry}/team/model:{tag}",
    ]
    assert containers_of(f"{registry}/team/model:{tag}") == ""
    created = (state / "repositories/team/model").read_text()
    assert "scanOnPush=true" in created
    assert "--image-tag-mutability IMMUTABLE" in created

    again = real_script("team/model")

    assert again.returncode == 1
    assert f"the tag '{tag}' exists already ({digest})" in again.stderr


def image_in_registry(registry: str, repository: str, tag: str) -> list[str]:
    """Ask the registry, not the script, for digest and media type of a tag."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_AWS_REGISTRY", registry)
        return fake_aws.image_in_registry(repository, tag).split("\t")


@pytest.mark.docker
def test_image_that_does_not_work_is_not_pushed(
    real_script: Script, checkout: Path, registry: str
) -> None:
    """A build that cannot train stops at the smoke test, and its containers are removed."""
    (checkout / "train" / "job.py").write_text("raise SystemExit('broken on purpose')\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "break it")
    tag = f"{tag_of(checkout)}-slim"

    result = real_script("model")

    assert result.returncode == 1
    assert "broken on purpose" in result.stderr
    assert "was not pushed" in result.stderr
    assert image_in_registry(registry, "model", tag) == [""]
    assert containers_of(f"{registry}/model:{tag}") == ""


@pytest.mark.docker
def test_wrong_registry_password_is_refused_before_the_build(
    real_script: Script, programs: Path, state: Path
) -> None:
    """A login that fails ends the run in seconds."""
    aws = programs / "aws"
    write_program(
        aws,
        aws.read_text().replace("exec", 'case "$*" in *password*) echo wrong; exit;; esac\nexec'),
    )

    result = real_script("model")

    assert result.returncode == 1
    assert "refuses the login" in result.stderr
    assert "building" not in result.stderr
