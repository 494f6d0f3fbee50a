"""The command line: ``python -m local_test prepare | train | serve | check | predict``."""

import argparse
import http.client
import math
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from local_test import algorithm_check
from local_test.backends import DEFAULT_PORT, Backend, DockerBackend, ProcessBackend
from local_test.datasets import DatasetError, write_breast_cancer
from local_test.docker_engine import ensure_image
from local_test.host_process import LOOPBACK
from local_test.hosts import RunningHosts, collect, lay_out
from local_test.invoke import invoke, ping
from local_test.ml_tree import MlTree
from local_test.outcomes import BackendError, EndedBy, UnreachableServerError
from local_test.programs import RunningProgram, RunningServer

PAYLOAD_NAME = "payload.csv"
INSTANCES_NAME = "instances"
MAX_INSTANCES = 20
PING_INTERVAL_SECONDS = 0.2
DONE, FAILED, NOT_TRIED, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "exit codes: 0 done; 1 the program failed, or the answer is an error; 2 it was not tried: wrong"
    " usage, no engine, no data; 130 training was interrupted"
)


class UsageError(Exception):
    """The arguments do not fit what is on disk."""


def main(arguments: Sequence[str] | None = None) -> int:
    # SIGTERM, as Ctrl-C, shall not leave behind what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (UsageError, DatasetError, BackendError, OSError) as error:
        _say(f"error: {error}")
        return NOT_TRIED
    except KeyboardInterrupt:
        return INTERRUPTED


def prepare(options: argparse.Namespace) -> int:
    ml = MlTree(options.directory)
    dataset = write_breast_cancer(ml)
    payload_file = ml.root / PAYLOAD_NAME
    payload_file.write_bytes(dataset.payload)
    n_train, n_validation = dataset.train.count(b"\n"), dataset.validation.count(b"\n")
    _say(f"{ml.root} plays /opt/ml: breast cancer, {n_train} rows to train on, {n_validation} to")
    _say(f"validate with; these without their labels, to be sent to a server: {payload_file}")
    return DONE


def train(options: argparse.Namespace) -> int:
    ml = _laid_out_tree(options.directory)
    backend = _backend(options)
    ml.empty_outputs()
    program: RunningProgram | RunningHosts
    if options.instances == 1:
        program = backend.start_training(ml, environment=dict(options.env))
    else:
        trees = lay_out(ml, backend.host_names(options.instances), ml.root / INSTANCES_NAME)
        program = backend.start_training_on_hosts(trees, environment=dict(options.env))
    exit_code, ended_by = _run_in_foreground(program)
    if isinstance(program, RunningHosts):
        collect(program.trees, ml)
    if exit_code != 0:
        _say(f"training ended with exit code {exit_code}; output/failure says:")
        _say(ml.failure_reason() or "(there is no such file, or it is empty)")
    elif not ml.model_files():
        _say(f"training ended with exit code 0, but left nothing in {ml.model_dir}")
    else:
        _say(f"model: {ml.model_dir} holds {', '.join(ml.model_files())}")
    if ended_by is not EndedBy.ITSELF:
        return INTERRUPTED
    return DONE if exit_code == 0 and ml.model_files() else FAILED


def serve(options: argparse.Namespace) -> int:
    ml = _laid_out_tree(options.directory)
    server = _backend(options).start_server(
        ml, environment=dict(options.env), port=options.port, wait_until_ready=False
    )
    has_ended = threading.Event()
    threading.Thread(target=_announce, args=(server, has_ended), daemon=True).start()
    exit_code, ended_by = _run_in_foreground(server)
    has_ended.set()
    _say(f"the server ended with exit code {exit_code}")
    return DONE if exit_code == 0 and ended_by is EndedBy.SIGTERM else FAILED


def check(options: argparse.Namespace) -> int:
    ml = _laid_out_tree(options.directory)
    backend = _backend(options)
    n_broken = 0
    with tempfile.TemporaryDirectory() as scratch:
        for clause, problem in algorithm_check.run(backend, ml, Path(scratch), dict(options.env)):
            print(f"{'BROKEN' if problem else 'kept':6}  {clause}", flush=True)
            if problem:
                n_broken += 1
                print(f"        {problem}", flush=True)
    return FAILED if n_broken else DONE


def predict(options: argparse.Namespace) -> int:
    url = f"http://{LOOPBACK}:{options.port}"
    body = options.payload.read_bytes()
    try:
        response = invoke(url, body, content_type=options.content_type, accept=options.accept)
    except (OSError, http.client.HTTPException) as error:
        _say(f"error: no answer from {url} ({type(error).__name__}: {error}); start a server with:")
        _say("  python -m local_test serve DIR")
        return FAILED
    is_error = response.status >= 400
    if is_error:
        _say(f"error: status {response.status}")
    output = sys.stderr if is_error else sys.stdout
    output.buffer.write(response.body)
    output.flush()
    return FAILED if is_error else DONE


def _run_in_foreground(program: RunningProgram | RunningHosts) -> tuple[int, EndedBy]:
    """Show what it writes until it ends; the first Ctrl-C or SIGTERM stops it, the second kills."""
    requests: list[int] = []
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda number, _: requests.append(number))

    ended_by, deadline = EndedBy.ITSELF, math.inf
    for written in program.follow():
        sys.stdout.buffer.write(written)
        sys.stdout.flush()
        if requests and ended_by is EndedBy.ITSELF:
            _say(f"stopping it with SIGTERM; Ctrl-C or {program.grace_seconds:g} s kill it")
            program.terminate()
            ended_by, deadline = EndedBy.SIGTERM, time.monotonic() + program.grace_seconds
        if ended_by is EndedBy.SIGTERM and (len(requests) > 1 or time.monotonic() > deadline):
            _say("killing it")
            program.send_signal(signal.SIGKILL)
            ended_by = EndedBy.SIGKILL
    exit_code = program.wait(0)
    program.close()
    return exit_code, ended_by


def _announce(server: RunningServer, has_ended: threading.Event) -> None:
    """Say once when the server is ready."""
    while not has_ended.wait(PING_INTERVAL_SECONDS):
        try:
            is_ready = ping(server.url).status == 200
        except UnreachableServerError:  # a container that ended at once has no address any more
            return
        except (OSError, http.client.HTTPException):
            continue
        if is_ready:
            _say(f"ready on {server.url}; Ctrl-C stops it")
            return


def _laid_out_tree(directory: Path) -> MlTree:
    ml = MlTree(directory)
    if not ml.config_dir.is_dir():  # also a guard: training empties model/ and output/
        raise UsageError(
            f"{directory} does not look like /opt/ml: it has no input/config; lay it out with:"
            f" python -m local_test prepare {directory}"
        )
    return ml


def _backend(options: argparse.Namespace) -> Backend:
    if not options.image:
        return ProcessBackend()
    ensure_image(options.image)  # now, so that a misspelt one costs nobody the model of a tree
    return DockerBackend(options.image)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _instances(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_INSTANCES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_INSTANCES}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_test",
        description="SageMaker on this machine: lay out /opt/ml, train, serve, predict.",
        epilog=EXIT_CODES,
    )
    tree = argparse.ArgumentParser(add_help=False)
    tree.add_argument("directory", type=Path, metavar="DIR", help="what plays /opt/ml")
    program = argparse.ArgumentParser(add_help=False)
    how = program.add_mutually_exclusive_group()
    how.add_argument("--image", help="run this image with Docker")
    how.add_argument("--process", action="store_true", help="run plain processes (default)")
    program.add_argument(
        *("--env", "-e"),
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for the program; may be repeated",
    )

    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        function: Callable[[argparse.Namespace], int],
        text: str,
        *parents: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            function.__name__, help=text, description=text, epilog=EXIT_CODES, parents=parents
        )
        command.set_defaults(command=function)
        return command

    add(prepare, "lay out a tree with real data and hyperparameters", tree)
    _add_instances(add(train, "empty model/ and output/, then train", tree, program))
    _add_port(add(serve, "serve model/ until Ctrl-C", tree, program), "0 means any free port")
    add(check, "check an algorithm: train, serve, ask, reload, with many models", tree, program)
    _add_predict_arguments(add(predict, "send one payload to a server and print the answer"))
    return parser


def _add_instances(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--instances",
        type=_instances,
        default=1,
        metavar="N",
        help=f"train on N hosts, each with a tree below DIR/{INSTANCES_NAME} (1 by default)",
    )


def _add_port(command: argparse.ArgumentParser, remark: str) -> None:
    command.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help=f"{DEFAULT_PORT} by default; {remark}"
    )


def _add_predict_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("payload", type=Path, metavar="PAYLOAD", help="a file, sent as it is")
    command.add_argument("--content-type", default="text/csv", help="text/csv by default")
    command.add_argument("--accept", help="what the answer should be; not sent by default")
    _add_port(command, f"on {LOOPBACK}")


if __name__ == "__main__":
    sys.exit(main())
