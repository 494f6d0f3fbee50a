"""One job on several hosts: a tree for each, and their programs as one.

As on the platform, every host has its own ``/opt/ml``, with all objects of a channel or with its
share of them; what the hosts leave in ``model/`` and ``output/data/`` becomes one archive each.

Source: SageMaker API reference, S3DataSource (S3DataDistributionType) and ResourceConfig.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from local_test.programs import TRAINING_GRACE_SECONDS, RunningProgram

SHARDED = "ShardedByS3Key"


def lay_out(ml: MlTree, hosts: Sequence[str], directory: Path) -> dict[str, MlTree]:
    """Make a tree for every host, below ``directory``, which is emptied first.

    Objects are hard links to those of ``ml``, so that nothing is copied on one disk.
    """
    shutil.rmtree(directory, ignore_errors=True)
    trees = {host: MlTree(directory / host) for host in hosts}
    for index, (host, tree) in enumerate(trees.items()):
        shutil.copytree(ml.config_dir, tree.config_dir)
        tree.create().write_hosts(host, hosts)
        if ml.checkpoints_dir.is_dir():
            shutil.copytree(ml.checkpoints_dir, tree.checkpoints_dir, dirs_exist_ok=True)
        for channel, config in ml.channels().items():
            is_sharded = config.get("S3DistributionType") == SHARDED
            files = sorted(path for path in ml.channel_dir(channel).rglob("*") if path.is_file())
            _link(
                files[index :: len(hosts)] if is_sharded else files,
                ml.channel_dir(channel),
                tree.channel_dir(channel),
            )
    return trees


def collect(trees: Mapping[str, MlTree], ml: MlTree) -> None:
    """Merge what the hosts left into ``ml``, checkpoints too; of equal names the last host's wins.

    The reason of a failure is that of the first host that has one.
    """
    ml.empty_outputs()
    for tree in trees.values():
        shutil.copytree(tree.model_dir, ml.model_dir, dirs_exist_ok=True)
        shutil.copytree(tree.output_data_dir, ml.output_data_dir, dirs_exist_ok=True)
        shutil.copytree(tree.checkpoints_dir, ml.checkpoints_dir, dirs_exist_ok=True)
        if tree.failure_file.exists() and not ml.failure_file.exists():
            shutil.copy(tree.failure_file, ml.failure_file)


class RunningHosts:
    """The programs of one job. Close it, or use it as a context manager.

    Args:
        trees: By host.
        start: Starts the program of a host on its tree.
        release: Called when all programs are closed.
    """

    grace_seconds = TRAINING_GRACE_SECONDS

    def __init__(
        self,
        trees: Mapping[str, MlTree],
        start: Callable[[str, MlTree], RunningProgram],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.trees = dict(trees)
        self.programs: dict[str, RunningProgram] = {}
        self._release = release
        self._is_released = False
        try:
            for host, tree in trees.items():
                self.programs[host] = start(host, tree)
        except BaseException:  # also Ctrl-C: the caller never gets what it could close
            self.close()
            raise

    def finish(self, timeout_seconds: float) -> dict[str, FinishedRun]:
        """Wait for all to end, then close them; after the time they are killed.

        Raises:
            ProgramTimeoutError: one did not end in time.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            return {
                host: program.finish(max(0.0, deadline - time.monotonic()))
                for host, program in self.programs.items()
            }
        finally:
            self.close()

    def follow(self) -> Iterator[bytes]:
        """Yield what they write, line by line with the name of the host before it, until all end.

        A chunk is empty when nothing came for a moment.
        """
        streams = {host: program.follow() for host, program in self.programs.items()}
        held = dict.fromkeys(streams, b"")
        while streams:
            for host in list(streams):
                written = next(streams[host], None)
                if written is None:
                    del streams[host]
                *lines, held[host] = (held[host] + (written or b"")).split(b"\n")
                if written is None and held[host]:
                    lines.append(held[host])
                yield b"".join(b"%s | %s\n" % (host.encode(), line) for line in lines)

    def send_signal(self, signal_number: int) -> None:
        """Signal the first process of every host."""
        for program in self.programs.values():
            program.send_signal(signal_number)

    def terminate(self) -> None:
        """Send SIGTERM to all and return at once, as the platform stops a job."""
        for program in self.programs.values():
            program.terminate()

    def wait(self, timeout_seconds: float) -> int:
        """Wait for all and return the first exit code that is not 0, or 0.

        Raises:
            ProgramTimeoutError: one is still running; all are left alone.
        """
        deadline = time.monotonic() + timeout_seconds
        codes = [
            program.wait(max(0.0, deadline - time.monotonic()))
            for program in self.programs.values()
        ]
        return next((code for code in codes if code), 0)

    def close(self) -> None:
        """Kill what still runs and clean up; outputs can still be read."""
        for program in self.programs.values():
            program.close()
        if not self._is_released:
            self._is_released = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _link(files: Sequence[Path], source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, link, follow_symlinks=True)
        except OSError:  # another file system
            shutil.copy(file, link)
