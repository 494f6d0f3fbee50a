"""Entry point of the image: `python -m container train|serve`.

The only module that passes the environment to a verb. A verb is imported only when it is run.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from container import __version__

_USAGE = f"""\
usage: docker run IMAGE train | serve      (in process mode: python -m container train | serve)

  train   train the model that /opt/ml/input/config describes, leave it in /opt/ml/model, exit
  serve   answer GET /ping and POST /invocations for the model in /opt/ml/model, until SIGTERM

SAGEMAKER_BASE_DIR replaces /opt/ml. Version {__version__}.
"""

_EXIT_USAGE = 2


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the verb that `arguments` name and return its exit code."""
    match arguments:
        case ["train"]:
            from train.supervisor import main as train

            return train(environ)
        case ["serve"]:
            for number in (signal.SIGTERM, signal.SIGINT):  # until gunicorn handles them
                signal.signal(number, _leave_at_once)
            from serve.server import main as serve

            return serve(environ)
        case ["--help" | "-h"] | ["train" | "serve", "--help" | "-h"]:
            print(_USAGE, end="")
            return 0
        case _:
            given = " ".join(arguments) or "nothing"
            problem = f"the verb must be train or serve, and nothing else; given: {given}"
            print(f"error: {problem}\n", file=sys.stderr)
            print(_USAGE, end="", file=sys.stderr)
            return _EXIT_USAGE


def _leave_at_once(signum: int, frame: FrameType | None) -> None:
    """Exit without cleanup: there is nothing to save before the server runs.

    An exception would be lost where Python ignores exceptions, as in a callback of a fork.
    """
    os._exit(128 + signum)


if __name__ == "__main__":
    # As PID 1 a process ignores SIGTERM until it handles it: before the frameworks are imported.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    sys.exit(main(sys.argv[1:], os.environ))
