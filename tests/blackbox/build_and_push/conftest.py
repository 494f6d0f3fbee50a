"""A clean checkout, fakes of `aws` and `docker`, and the script run between them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.build_and_push import fake_aws

ROOT = Path(__file__).parents[3]
CHECKOUT = [".dockerignore", "Dockerfile", "LICENSE", "build_and_push.sh"]
CHECKOUT += ["container", "requirements", "scripts", "serve", "train"]
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
RECORDING_DOCKER = """\
#!/bin/sh
echo "docker $*" >>"$FAKE_AWS_DIR/calls"
[ "$1" != buildx ] || exit 1
if [ "$1" = push ] && [ -n "$FAKE_AWS_PUSH_ERROR" ]; then
    echo "$FAKE_AWS_PUSH_ERROR" >&2
    exit 1
fi
"""
Script = Callable[..., subprocess.CompletedProcess[str]]


def git(checkout: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout of what the script needs, with one commit."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
            )
        else:
            shutil.copy(source, checkout / name)
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "all of it")
    return checkout


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Directory where the fakes record their calls."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "calls").touch()
    return state


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for the front of PATH, with the fakes of `aws` and `docker` in it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = Path(fake_aws.__file__)
    write_program(programs / "aws", f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
    write_program(programs / "docker", RECORDING_DOCKER)
    return programs


@pytest.fixture
def script(checkout: Path, state: Path, programs: Path, tmp_path: Path) -> Script:
    """Run build_and_push.sh in the checkout; keyword arguments are environment variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "FAKE_AWS_DIR": str(state),
            "FAKE_AWS_REGISTRY": "registry.invalid",
            "FAKE_AWS_REGION": "eu-west-1",
            "FAKE_AWS_IMAGES": "{}",
            **variables,
        }
        return subprocess.run(
            [checkout / "build_and_push.sh", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


def calls(state: Path) -> list[str]:
    return (state / "calls").read_text().splitlines()


def tag_of(checkout: Path) -> str:
    """Return the tag that the checkout must get, from its own files."""
    version = re.search(r'__version__ = "(.+)"', (checkout / "container/__init__.py").read_text())
    assert version is not None
    return f"{version[1]}-{git(checkout, 'rev-parse', '--short', 'HEAD')}"
