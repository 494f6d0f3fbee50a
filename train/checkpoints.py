"""Checkpoint files: a job resumes from them after it was stopped or killed (C-031, C-033, C-105).

    checkpoint-00000041      one file each, written atomically; the newest three are kept
    checkpoint-00000042

A file is a line with a digest of all that follows, a line of JSON, and the algorithm's own parts.
It holds digests of the data and the hyperparameters of its job. A job resumes from the newest file
that is complete and its own. It leaves all other files alone: those of other jobs, and those with
more rounds than it asks for (C-032).
"""

import contextlib
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from container.algorithms.training_contract import Checkpoint
from container.opt_ml import flush_to_disk
from train.input.libsvm_base import LibsvmBase
from train.metric_lines import Recorder

logger = logging.getLogger(__name__)

Shorten = Callable[[Mapping[str, bytes], int], Mapping[str, bytes]]

N_KEPT = 3
# The digest of its job follows where a file of another job has the plain name.
_NAME = re.compile(r"checkpoint-(\d{8,})(-[0-9a-f]{8})?")
_TEMPORARY_PREFIX = ".checkpoint-"
_MAGIC = b"byoa-checkpoint-1 "
_MIN_INTERVAL_IN_SAVES = 20  # saving takes at most about 1/20 of the time
_LAST_CALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times at which a checkpoint is due.

    Args:
        interval_seconds: From the end of one save to the start of the next; 0: after every round.
        end_time: Time on `time.monotonic` at which the platform stops the job.
    """

    interval_seconds: float
    end_time: float | None = None


@dataclass(slots=True)
class CheckpointDirectory:
    """Checkpoints in a directory; see `container.algorithms.training_contract.Checkpoints`.

    Args:
        directory: Created when the first checkpoint is saved.
        data: Digest of each channel, by name.
        recorder: Metrics history; saved with each checkpoint, restored by `resume`.
        schedule: Times at which a checkpoint is due.
        libsvm_base: Index base of libsvm; saved with each checkpoint, restored by `resume`.
    """

    directory: Path
    data: Mapping[str, str]
    recorder: Recorder
    schedule: Schedule
    libsvm_base: LibsvmBase = field(default_factory=LibsvmBase)
    is_on: bool = True
    _digests: dict[str, str] = field(default_factory=dict)
    _own: list[Path] = field(default_factory=list)  # oldest first: it is deleted first
    _of_others: set[Path] = field(default_factory=set)
    _last_saved: float = field(default_factory=lambda: time.monotonic())
    _last_asked: float | None = None  # data are read before the first round
    _saving_seconds: float = 0.0
    _is_last_call_over: bool = False

    def resume(
        self, facts: Mapping[str, object], max_rounds: int, shorten: Shorten | None = None
    ) -> Checkpoint | None:
        """See `container.algorithms.training_contract.Checkpoints.resume`."""
        self._digests = {name: _digest(repr(value).encode()) for name, value in facts.items()}
        self._digests |= {f"channel {name}": digest for name, digest in self.data.items()}
        self._remove_temporary_files()
        found: tuple[Path, Checkpoint] | None = None
        for file in sorted(_checkpoint_files(self.directory), key=_number, reverse=True):
            checkpoint = self._usable(file)
            if checkpoint is None:
                continue
            if checkpoint.n_rounds > max_rounds:
                logger.warning(
                    "checkpoint_left_alone",
                    extra={
                        "checkpoint": file.name,
                        "reason": f"it has {checkpoint.n_rounds} rounds of {max_rounds} asked for",
                    },
                )
                if shorten:  # files come in descending order: the last one seen is the nearest
                    found = file, checkpoint
                continue
            self._own.insert(0, file)
            if found is None or checkpoint.n_rounds == max_rounds:
                found = file, checkpoint
        return self._begin_with(*found, max_rounds, shorten) if found else None

    def _begin_with(
        self, file: Path, checkpoint: Checkpoint, max_rounds: int, shorten: Shorten | None
    ) -> Checkpoint:
        if shorten and checkpoint.n_rounds > max_rounds:
            checkpoint = replace(
                checkpoint,
                n_rounds=max_rounds,
                history=checkpoint.history[:max_rounds],
                parts=shorten(checkpoint.parts, max_rounds),
            )
        logger.info(
            "training_resumed", extra={"checkpoint": file.name, "n_rounds": checkpoint.n_rounds}
        )
        self.recorder.restore(checkpoint.history)
        self.libsvm_base.restore(checkpoint.libsvm_base)
        return checkpoint

    def is_due(self) -> bool:
        """See `container.algorithms.training_contract.Checkpoints.is_due`. Called once a round."""
        now = time.monotonic()
        round_seconds = 0.0 if self._last_asked is None else now - self._last_asked
        self._last_asked = now
        if self._is_last_call(now, round_seconds):
            return True
        interval = self.schedule.interval_seconds
        if interval:
            interval = max(interval, _MIN_INTERVAL_IN_SAVES * self._saving_seconds)
        return now - self._last_saved >= interval

    def save(self, n_rounds: int, parts: Mapping[str, bytes]) -> None:
        """See `container.algorithms.training_contract.Checkpoints.save`."""
        started = time.monotonic()
        file = self._file(n_rounds)
        temporary = self.directory / f"{_TEMPORARY_PREFIX}{n_rounds:08d}.tmp"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                made = Checkpoint(n_rounds, self.recorder.history, parts, self.libsvm_base.value)
                for piece in _encode(made, self._digests):
                    stream.write(piece)
            flush_to_disk(temporary)
            temporary.replace(file)
            flush_to_disk(self.directory)
            self._forget_oldest(file)
        except OSError as error:
            # The job goes on: a later save may succeed, and the model needs none.
            logger.warning(
                "checkpoint_not_saved",
                extra={"checkpoint": file.name, "reason": error.strerror or str(error)},
            )
            self._remove_temporary_files()
        else:
            logger.info("checkpoint_saved", extra={"checkpoint": file.name, "n_rounds": n_rounds})
        self._last_saved = time.monotonic()
        self._saving_seconds = self._last_saved - started

    def _is_last_call(self, now: float, round_seconds: float) -> bool:
        """True if after another round it may be too late to save before the job is stopped.

        One slow round must not end this: it stays due each round until the time is really short.
        """
        end_time = self.schedule.end_time
        if end_time is None or self._is_last_call_over:
            return False
        latest = end_time - self._saving_seconds - _LAST_CALL_SECONDS
        self._is_last_call_over = now >= latest
        return now + 2 * round_seconds >= latest

    def _usable(self, file: Path) -> Checkpoint | None:
        """Read a file; None unless it is complete and of this job."""
        try:
            checkpoint, digests = _decode(file.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(
                "checkpoint_ignored", extra={"checkpoint": file.name, "reason": str(error)}
            )
            return None
        names = sorted({*digests, *self._digests})
        differs = [name for name in names if digests.get(name) != self._digests.get(name)]
        if differs:
            self._of_others.add(file)
            logger.warning(
                "checkpoint_ignored",
                extra={
                    "checkpoint": file.name,
                    "reason": f"another job made it: {', '.join(differs)} differ",
                },
            )
            return None
        return checkpoint

    def _file(self, n_rounds: int) -> Path:
        """Return the file to save to, which is none that another job has saved."""
        file = self.directory / f"checkpoint-{n_rounds:08d}"
        if file not in self._of_others:
            return file
        return file.with_name(
            f"{file.name}-{_digest(repr(sorted(self._digests.items())).encode())[:8]}"
        )

    def _forget_oldest(self, newest: Path) -> None:
        self._own = [*(file for file in self._own if file != newest), newest]
        while len(self._own) > N_KEPT:
            self._own.pop(0).unlink(missing_ok=True)

    def _remove_temporary_files(self) -> None:
        for file in self.directory.glob(f"{_TEMPORARY_PREFIX}*.tmp"):
            with contextlib.suppress(OSError):  # left over from a job that was killed
                file.unlink()


def _checkpoint_files(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        for path in directory.iterdir():
            if _NAME.fullmatch(path.name) and path.is_file():
                yield path


def _number(file: Path) -> int:
    return int(file.name.split("-")[1])


def _encode(checkpoint: Checkpoint, digests: Mapping[str, str]) -> list[bytes]:
    header = {
        "n_rounds": checkpoint.n_rounds,
        "digests": digests,
        "history": checkpoint.history,
        "libsvm_base": checkpoint.libsvm_base,
        "parts": {name: len(content) for name, content in checkpoint.parts.items()},
    }
    body = [json.dumps(header).encode(), b"\n", *checkpoint.parts.values()]
    whole = hashlib.sha256()
    for piece in body:
        whole.update(piece)
    return [_MAGIC, whole.hexdigest().encode(), b"\n", *body]


def _decode(content: bytes) -> tuple[Checkpoint, dict[str, str]]:
    """Parse a file.

    Raises:
        ValueError: the file is incomplete or changed; XGBoost could crash on a model in it.
    """
    first, _, body = content.partition(b"\n")
    if not first.startswith(_MAGIC):
        raise ValueError("it is not a checkpoint of this container")
    if hashlib.sha256(body).hexdigest().encode() != first.removeprefix(_MAGIC):
        raise ValueError("it is incomplete, or was changed: its digest differs")
    line, _, rest = body.partition(b"\n")
    header = json.loads(line)
    parts, start = {}, 0
    for name, n_bytes in header["parts"].items():
        parts[name] = rest[start : start + n_bytes]
        start += n_bytes
    # Checkpoints of earlier versions count from 0 throughout.
    base = header.get("libsvm_base", 0)
    return Checkpoint(header["n_rounds"], header["history"], parts, base), header["digests"]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
