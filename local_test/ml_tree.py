"""The directory that plays ``/opt/ml``: lays it out and reads it back as the platform does.

    input/config/hyperparameters.json    every value a string
    input/config/inputdataconfig.json    channel -> how it is fed
    input/config/resourceconfig.json     this host among all hosts
    input/config/checkpointconfig.json   only with checkpoints
    input/data/<channel>/                the objects of a channel
    model/                               what becomes model.tar.gz
    output/data/                         what becomes output.tar.gz
    output/failure                       why the job failed
    checkpoints/                         survives an interruption

Limits are those of the CreateTrainingJob request; breaking one is a ``ValueError``, as the service
would refuse the request. To give a container a broken file on purpose, write it directly: the
paths are properties.

Source: SageMaker developer guide, "How Amazon SageMaker Provides Training Information" and "How
Amazon SageMaker Processes Training Output"; API reference, CreateTrainingJob.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FAILURE_REASON_CHARACTERS = 1024
MAX_HYPERPARAMETERS = 100
MAX_HYPERPARAMETER_NAME_CHARACTERS = 256
MAX_HYPERPARAMETER_VALUE_CHARACTERS = 2500
MAX_CHANNELS = 20
CHANNEL_NAME = re.compile(r"[A-Za-z0-9.\-_]{1,64}")


@dataclass(frozen=True, slots=True)
class MlTree:
    """One ``/opt/ml``; ``root`` is the directory that a backend mounts or names as such."""

    root: Path

    @property
    def config_dir(self) -> Path:
        return self.root / "input" / "config"

    @property
    def hyperparameters_file(self) -> Path:
        return self.config_dir / "hyperparameters.json"

    @property
    def input_data_config_file(self) -> Path:
        return self.config_dir / "inputdataconfig.json"

    @property
    def resource_config_file(self) -> Path:
        return self.config_dir / "resourceconfig.json"

    @property
    def checkpoint_config_file(self) -> Path:
        return self.config_dir / "checkpointconfig.json"

    @property
    def data_dir(self) -> Path:
        return self.root / "input" / "data"

    @property
    def model_dir(self) -> Path:
        return self.root / "model"

    @property
    def output_data_dir(self) -> Path:
        return self.root / "output" / "data"

    @property
    def failure_file(self) -> Path:
        return self.root / "output" / "failure"

    @property
    def checkpoints_dir(self) -> Path:
        return self.root / "checkpoints"

    def channel_dir(self, channel: str) -> Path:
        """Return where the objects of a channel lie.

        Raises:
            ValueError: the name is not one that the service accepts.
        """
        # "." and ".." match the service's pattern; as directories they are not a channel.
        if not CHANNEL_NAME.fullmatch(channel) or channel in {".", ".."}:
            raise ValueError(
                f"channel {channel!r}: a name is {CHANNEL_NAME.pattern}, not '.' or '..'"
            )
        return self.data_dir / channel

    def create(self) -> Self:
        """Make every directory, no hyperparameters, no channel and one host; keep what is there."""
        for directory in (
            self.config_dir,
            self.data_dir,
            self.model_dir,
            self.output_data_dir,
            self.checkpoints_dir,
        ):
            directory.mkdir(parents=True, exist_ok=True)
        if not self.hyperparameters_file.exists():
            self.write_hyperparameters({})
        if not self.input_data_config_file.exists():
            _write_json(self.input_data_config_file, {})
        if not self.resource_config_file.exists():
            self.write_hosts()
        return self

    def write_hyperparameters(self, values: Mapping[str, str]) -> None:
        """Replace the hyperparameters.

        Raises:
            TypeError: a value is not a string; the API knows only strings.
            ValueError: too many, or a name or value is too long.
        """
        if len(values) > MAX_HYPERPARAMETERS:
            raise ValueError(
                f"{len(values)} hyperparameters; at most {MAX_HYPERPARAMETERS} are allowed"
            )
        for name, value in values.items():
            _check_hyperparameter(name, value)
        _write_json(self.hyperparameters_file, dict(values))

    def write_channel(
        self,
        channel: str,
        files: Mapping[str, bytes],
        *,
        content_type: str | None = None,
        input_mode: str = "File",
        distribution: str = "FullyReplicated",
    ) -> Path:
        """Add or replace a channel; ``files`` maps paths below it to contents.

        Args:
            distribution: ``ShardedByS3Key`` deals the files out where there are several hosts.

        Returns:
            The directory of the channel.
        """
        channel_dir = self.channel_dir(channel)
        config = _read_json(self.input_data_config_file)
        config[channel] = {
            "TrainingInputMode": input_mode,
            "S3DistributionType": distribution,
            "RecordWrapperType": "None",
        }
        if content_type is not None:
            config[channel]["ContentType"] = content_type
        if len(config) > MAX_CHANNELS:
            raise ValueError(f"channel {channel!r} is one more than the {MAX_CHANNELS} allowed")

        if channel_dir.exists():
            shutil.rmtree(channel_dir)
        channel_dir.mkdir(parents=True)
        for name, content in files.items():
            file = channel_dir / name
            if not file.resolve().is_relative_to(channel_dir.resolve()):
                raise ValueError(f"channel {channel!r}: {name!r} leaves the channel's directory")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        _write_json(self.input_data_config_file, config)
        return channel_dir

    def channels(self) -> dict[str, dict[str, str]]:
        """Return what ``inputdataconfig.json`` says of each channel."""
        return _read_json(self.input_data_config_file)

    def write_hosts(
        self,
        current_host: str = "algo-1",
        hosts: Sequence[str] = ("algo-1",),
        *,
        network_interface_name: str = "eth0",
        instance_type: str = "local",
    ) -> None:
        """Say which host this tree belongs to, with the keys that real jobs have been seen to have.

        Raises:
            ValueError: ``current_host`` is not one of ``hosts``.
        """
        if current_host not in hosts:
            raise ValueError(f"current host {current_host!r} is not one of {', '.join(hosts)}")
        names = sorted(hosts)  # as text, so that algo-10 precedes algo-2: the platform's own order
        group = {
            "instance_group_name": "homogeneousCluster",
            "instance_type": instance_type,
            "hosts": names,
        }
        config = {
            "current_host": current_host,
            "current_instance_type": instance_type,
            "current_group_name": group["instance_group_name"],
            "hosts": names,
            "instance_groups": [group],
            "network_interface_name": network_interface_name,
        }
        _write_json(self.resource_config_file, config)

    def write_checkpoint_config(
        self, local_path: str = "/opt/ml/checkpoints", s3_uri: str = "s3://local-test/checkpoints"
    ) -> None:
        """Ask for checkpoints in ``local_path``, a path inside (see ``Backend.path_inside``)."""
        _write_json(self.checkpoint_config_file, {"LocalPath": local_path, "S3Uri": s3_uri})

    def empty_outputs(self) -> None:
        """Empty ``model/`` and ``output/``, as every start of a job finds them.

        Also after an interruption: only ``checkpoints/`` and the input survive one.
        """
        for directory in (self.model_dir, self.root / "output"):
            if directory.exists():
                shutil.rmtree(directory)
        self.model_dir.mkdir(parents=True)
        self.output_data_dir.mkdir(parents=True)

    def failure_reason(self) -> str | None:
        """Return what DescribeTrainingJob would show: the first 1,024 characters, or no file."""
        try:
            content = self.failure_file.read_bytes()
        except FileNotFoundError:
            return None
        return content.decode(errors="replace")[:FAILURE_REASON_CHARACTERS]

    def model_files(self) -> tuple[str, ...]:
        """Return the members of ``model.tar.gz``: paths relative to ``model/``, sorted."""
        if not self.model_dir.is_dir():
            return ()
        files = (file for file in self.model_dir.rglob("*") if not file.is_dir())
        return tuple(sorted(file.relative_to(self.model_dir).as_posix() for file in files))


def _check_hyperparameter(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"hyperparameter {name!r}: {value!r} is not a string; the API takes strings"
        )
    if len(name) > MAX_HYPERPARAMETER_NAME_CHARACTERS:
        raise ValueError(
            f"hyperparameter {name[:40]!r}…: a name has at most"
            f" {MAX_HYPERPARAMETER_NAME_CHARACTERS} characters, this one {len(name)}"
        )
    if len(value) > MAX_HYPERPARAMETER_VALUE_CHARACTERS:
        raise ValueError(
            f"hyperparameter {name!r}: a value has at most"
            f" {MAX_HYPERPARAMETER_VALUE_CHARACTERS} characters, this one {len(value)}"
        )


def _read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return content


def _write_json(file: Path, content: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
