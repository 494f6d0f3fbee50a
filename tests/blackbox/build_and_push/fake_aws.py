"""Fake of the `aws` command: the six calls that build_and_push.sh makes.

It knows nothing of AWS beyond what the AWS CLI prints. Its input comes by the
environment, because the script under test starts it:

    FAKE_AWS_DIR       where it keeps the repositories that it has, and `calls`, one call a line
    FAKE_AWS_REGISTRY  host:port of the registry that plays ECR's
    FAKE_AWS_REGION    what `aws configure get region` prints; empty: not configured
    FAKE_AWS_ERRORS    JSON, call → what the AWS CLI would complain of
    FAKE_AWS_IMAGES    JSON, tag → `digest media-type`, in place of asking the registry
"""

import base64
import json
import os
import sys
from http.client import HTTPConnection
from pathlib import Path

USER, PASSWORD = "AWS", "stand-in-password"
MEDIA_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


class Refusal(Exception):
    """Message that the AWS CLI prints on standard error, with status 254."""


def error(code: str, operation: str, text: str) -> Refusal:
    return Refusal(f"An error occurred ({code}) when calling the {operation} operation: {text}")


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def image_in_registry(repository: str, tag: str) -> str:
    """Return `digest media-type` of a tag, asking the registry itself; empty when it has none."""
    connection = HTTPConnection(os.environ["FAKE_AWS_REGISTRY"], timeout=10)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    connection.request(
        "GET",
        f"/v2/{repository}/manifests/{tag}",
        headers={"Accept": ", ".join(MEDIA_TYPES), "Authorization": f"Basic {login}"},
    )
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status != 200:
        return ""
    return f"{response.headers['Docker-Content-Digest']}\t{response.headers['Content-Type']}"


def repository_uri(state: Path, arguments: list[str], *, create: bool) -> str:
    name = value(arguments, "--repository-name" if create else "--repository-names")
    record = state / "repositories" / name
    if create:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(" ".join(arguments))
    elif not record.exists():
        raise error("RepositoryNotFoundException", "DescribeRepositories", f"no '{name}'")
    return f"{os.environ['FAKE_AWS_REGISTRY']}/{name}"


def described_image(arguments: list[str]) -> str:
    tag = value(arguments, "--image-ids").removeprefix("imageTag=")
    images = json.loads(os.environ.get("FAKE_AWS_IMAGES", "null"))
    if images is None:
        found = image_in_registry(value(arguments, "--repository-name"), tag)
    else:
        found = images.get(tag, "")
    if not found:
        raise error("ImageNotFoundException", "DescribeImages", f"no image with the tag '{tag}'")
    return str(found)


def answer(state: Path, arguments: list[str]) -> str:
    """Return what the AWS CLI prints for one call."""
    call = " ".join(arguments[:2])
    errors = json.loads(os.environ.get("FAKE_AWS_ERRORS", "{}"))
    if call in errors:
        raise Refusal(errors[call])
    match call:
        case "configure get":
            if not os.environ["FAKE_AWS_REGION"]:
                raise Refusal("")
            return os.environ["FAKE_AWS_REGION"]
        case "sts get-caller-identity":
            return "123456789012"
        case "ecr get-login-password":
            return PASSWORD
        case "ecr describe-repositories":
            return repository_uri(state, arguments, create=False)
        case "ecr create-repository":
            return repository_uri(state, arguments, create=True)
        case "ecr describe-images":
            return described_image(arguments)
    raise Refusal(f"the fake does not know: {call}")


def main() -> None:
    state, arguments = Path(os.environ["FAKE_AWS_DIR"]), sys.argv[1:]
    with (state / "calls").open("a") as calls:
        print("aws", *arguments, file=calls)
    if arguments[0] == "--region":
        arguments = arguments[2:]
    try:
        print(answer(state, arguments))
    except Refusal as refusal:
        sys.exit(str(refusal) or 1)


if __name__ == "__main__":
    main()
