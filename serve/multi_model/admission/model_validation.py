"""Validation of one model in a child of the fork server: verify, load, predict, measure."""

import contextlib
import ctypes
import logging
import os
import signal
from pathlib import Path

import numpy as np

from container.settings import Settings
from serve import loading
from serve.invocation import ModelServable
from serve.loading import Artifact
from serve.multi_model.model_registry import Verdict
from serve.multi_model.residency import memory_budget
from serve.runtime import validation_run
from serve.user_code.servable import ScriptServable

OWN_CODE = "code"
"""Takes the place of the algorithm's name for a model that brings a script."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)


def contain_this_process() -> None:
    """Let this process harm no other one.

    It does not outlive the fork server, leads a group that can be killed with it, is the kernel's
    first choice when memory runs out, and meets a limit of its own before that.
    """
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, b"validation-run")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    memory_budget.limit_to_what_is_free()
    logging.disable(logging.INFO)  # the worker that loads the model says so


def validate(directory: Path, settings: Settings) -> Verdict:
    """Verify, load and predict; only for a process that may die of it.

    A script is loaded only: which records its model takes is not known, unless an algorithm loads
    the model.

    Returns:
        The algorithm's name, and by how many bytes this process has grown.
    Raises:
        ContainerError: what is wrong with the model.
    """
    artifact = loading.inspect(directory, settings)
    records = None
    if isinstance(artifact, Artifact):
        records = artifact.algorithm.verify(artifact.directory, artifact.manifest)
    before = memory_budget.footprint()
    servable = artifact.load()
    name, in_blocks = OWN_CODE, False
    model = servable.algorithms_model if isinstance(servable, ScriptServable) else None
    if isinstance(servable, ModelServable):
        model, name = servable.model, servable.algorithm.name
        in_blocks = servable.capabilities.predicts_row_blocks
        model.predict(np.zeros((1, model.n_features), dtype=np.float32))
    n_bytes = memory_budget.footprint().growth_since(before)
    if model is not None:
        validation_run.predict_in_all_ways(model, records, in_blocks=in_blocks)
    return Verdict(name, n_bytes)
