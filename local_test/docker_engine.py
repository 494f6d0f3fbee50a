"""The Docker engine through its command line client, ``docker`` or what ``BYOA_DOCKER`` names."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from local_test.outcomes import BackendError

COMMAND_TIMEOUT_SECONDS = 60.0
ANSWER_TIMEOUT_SECONDS = 10.0
PULL_TIMEOUT_SECONDS = 900.0
LOOPBACK = "127.0.0.1"


class EngineError(BackendError):
    """The engine refused a command, or does not answer."""


def docker_command() -> str:
    return os.environ.get("BYOA_DOCKER", "docker")


def docker(*arguments: str, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> str:
    """Run one client command and return its standard output, stripped.

    Raises:
        EngineError: the client is missing, failed, or did not end in time.
    """
    command = [docker_command(), *arguments]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout_seconds,
            start_new_session=True,  # Ctrl-C in a terminal is the caller's to handle
        )
    except OSError as error:
        raise EngineError(
            f"the client {command[0]!r} cannot be started ({error.strerror}); install Docker or"
            " name its client in BYOA_DOCKER"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"`docker {arguments[0]}` did not end within {timeout_seconds:g} s"
        ) from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"`docker {arguments[0]}`: {error.stderr.strip()}") from error
    return result.stdout.strip()


def engine_answers(timeout_seconds: float = ANSWER_TIMEOUT_SECONDS) -> bool:
    """Say whether there is a client and an engine behind it; never takes longer than the time."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_seconds=timeout_seconds)
    except EngineError:
        return False
    return True


def image_exists(image: str) -> bool:
    """Say whether the engine has the image; nothing is pulled."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except EngineError:
        return False
    return True


def ensure_image(image: str) -> None:
    """Pull the image unless the engine has it.

    Raises:
        EngineError: it cannot be had.
    """
    if not image_exists(image):
        docker("pull", image, timeout_seconds=PULL_TIMEOUT_SECONDS)


def inspect_container(name: str) -> dict[str, Any]:
    """Return the engine's own record of a container.

    Raises:
        EngineError: there is no such container.
    """
    [record] = json.loads(docker("container", "inspect", name))
    return dict(record)


def address_of(record: Mapping[str, Any], container_port: int) -> tuple[str, int] | None:
    """Find the host and port by which this machine reaches a port of a container, if it can."""
    published = (record["NetworkSettings"]["Ports"] or {}).get(f"{container_port}/tcp")
    if published:
        return LOOPBACK, int(published[0]["HostPort"])
    mode = record["HostConfig"]["NetworkMode"]
    if mode == "host":
        return LOOPBACK, container_port
    if mode.startswith("container:"):
        record = inspect_container(mode.removeprefix("container:"))
    for network in record["NetworkSettings"]["Networks"].values():
        if network["IPAddress"]:  # reachable where the engine runs on this machine
            return network["IPAddress"], container_port
    return None


def can_publish(options: Sequence[str]) -> bool:
    """Say whether a port may be published beside these ``docker run`` options.

    The engine refuses or ignores it on the network of the host or of another container.
    """
    for index, option in enumerate(options):
        flag, _, value = option.partition("=")
        if flag in {"--network", "--net"}:
            network = value or "".join(options[index + 1 : index + 2])
            return network not in {"host", "none"} and not network.startswith("container:")
    return True


def create_network(name: str, label: str) -> None:
    """Make a network on which containers know each other by name."""
    docker("network", "create", "--label", label, name)


def remove_network(name: str) -> None:
    """Remove a network on which no container is left."""
    docker("network", "rm", name)


def is_rootless() -> bool:
    """Say whether root in a container is the caller on the host."""
    return "rootless" in docker("info", "--format", "{{.SecurityOptions}}")
