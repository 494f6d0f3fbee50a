"""Models with code from outside: hostile and careless scripts beside models that behave.

Each deed is done by a model of its own, while two others are asked all the while. They answer as if
nothing happened, and nothing is left after the model is unloaded.
"""

import contextlib
import json
import os
import shutil
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import PIL
import pytest

from local_test.backends import Backend
from local_test.invoke import Response
from tests.blackbox.multi_model.conftest import Fleet, error_of, started
from tests.waiting import wait_for

GOOD = """
    import os

    def model_fn(model_dir):
        return os.getpid()

    def transform_fn(model, body, content_type, accept):
        return "good"
"""
SCRIPT = """
    import contextlib, ctypes, glob, io, json, logging, os, resource, signal, struct, sys, time

    def model_fn(model_dir):
        return None

    def sleep_in_a_child(*, in_a_session):
        if os.fork() == 0:
            if in_a_session:
                os.setsid()
                if os.fork():
                    os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)

    def deed():
        {deed}

    def transform_fn(model, body, content_type, accept):
        if body == "deed":
            return str(deed())
        return "here"
"""
# By name: the deed, and the status and the code of its answer; None where the deed decides.
DEEDS: dict[str, tuple[str, int, str | None]] = {
    "exits": ("os._exit(3)", 500, "model_crashed"),
    "crashes": ("ctypes.string_at(0)", 500, "model_crashed"),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", 500, "model_crashed"),
    "raises SystemExit": ("sys.exit(0)", 500, "internal_error"),
    "sleeps": ("time.sleep(600)", 503, "invocation_timeout"),
    "ignores signals and spins": (
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        while True:
            pass
        """,
        503,
        "invocation_timeout",
    ),
    "recurses": ("return deed()", 500, "internal_error"),
    "closes everything": ("os.closerange(0, 1000)", 500, "model_crashed"),
    "writes into everything": (
        """
        for number in range(3, 100):
            with contextlib.suppress(OSError):
                os.write(number, b'[]' * 100)
        """,
        500,
        "model_crashed",
    ),
    "claims an answer of 100 TB": (
        "os.write(3, struct.pack('<IQ', 2, 10**14) + b'{}')",
        507,
        "out_of_memory",
    ),
    "forges an answer": (
        "head = b'{\"status\": 200}'; os.write(3, struct.pack('<IQ', len(head), 0) + head)",
        500,
        "model_crashed",
    ),
    "uses up the descriptors": ("files = [open('/dev/null') for _ in iter(int, 1)]", 500, None),
    "leaves no descriptors": ("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", 200, None),
    "takes all memory": ("return len(bytearray(2**50))", 507, None),
    "prints 200 MB": (
        "for _ in range(200): sys.stdout.write('x' * 2**20); os.write(2, b'y\\n' * 1000)",
        200,
        None,
    ),
    "silences the log": (
        """
        logging.disable()
        logging.basicConfig(force=True, stream=open(os.devnull, "w"))
        logging.shutdown()
        contextlib.redirect_stdout(io.StringIO()).__enter__()
        """,
        200,
        None,
    ),
    "leaves a daemon": ("sleep_in_a_child(in_a_session=True)", 200, None),
    "leaves children": (
        "for _ in range(40): sleep_in_a_child(in_a_session=False)",
        200,
        None,
    ),
    "leaves a daemon and exits": (
        "sleep_in_a_child(in_a_session=True); time.sleep(0.1); os._exit(0)",
        500,
        "model_crashed",
    ),
    "is no subreaper any more": (
        "ctypes.CDLL(None).prctl(36, 0); sleep_in_a_child(in_a_session=True)",
        200,
        None,
    ),
    "fills its directory": (
        "for index in range(300): open(str(index), 'w').close()",
        200,
        None,
    ),
    "breaks what Python comes with": (
        "import builtins, socket; builtins.len = socket.socket = json.dumps = time.time = None",
        500,
        "model_crashed",
    ),
}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A directory that others may read: the models have users of their own then."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def hostile_fleet(backend: Backend, root: Path) -> Iterator[Fleet]:
    """A server of two good models, and room for a bad one."""
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "5"}
    with started(backend, root / "ml", **environment) as fleet:
        fleet.write_constant("trees", 1.5)
        fleet.write("code", {"code/inference.py": GOOD})
        for name in ("trees", "code"):
            assert fleet.load(name).status == 200
        yield fleet


@pytest.fixture(autouse=True)
def unloaded(hostile_fleet: Fleet) -> Iterator[None]:
    """No test leaves its model to the next one."""
    yield
    for name in set(hostile_fleet.names()) - {"trees", "code"}:
        hostile_fleet.unload(name)


def are_right(fleet: Fleet) -> bool:
    """Ask both good models."""
    trees, code = fleet.invoke("trees"), fleet.invoke("code", b"x")
    assert (trees.status, float(trees.body)) == (200, 1.5)
    assert (code.status, code.text) == (200, "good")
    return True


def write_bad(fleet: Fleet, deed: str) -> None:
    text = textwrap.indent(textwrap.dedent(deed).strip(), " " * 8).lstrip()
    fleet.write("bad", {"code/inference.py": SCRIPT.replace("{deed}", text)})


def files_of_models(fleet: Fleet) -> list[str]:
    """Working directories of model processes, as the server sees them."""
    links = [Path(f"/proc/{process_id}/cwd") for process_id in fleet.processes("model-process")]
    parents = {os.path.dirname(os.readlink(link)) for link in links}
    fork_server = min(fleet.processes("fork-server"))  # a child of it removes directories
    return [name for parent in parents for name in os.listdir(f"/proc/{fork_server}/root{parent}")]


@pytest.mark.parametrize("name", DEEDS)
def test_deed_of_a_model_concerns_nobody_else(hostile_fleet: Fleet, name: str) -> None:
    """The others answer meanwhile, the model comes back, and nothing of it is left (C-089)."""
    fleet = hostile_fleet
    deed, status, code = DEEDS[name]
    write_bad(fleet, deed)
    before = sorted(fleet.processes("worker")), fleet.processes("fork-server")
    n_processes = len(fleet.server.process_ids())
    assert fleet.load("bad").status == 200
    answers: list[Response] = []
    doing = threading.Thread(target=lambda: answers.append(fleet.invoke("bad", b"deed")))
    doing.start()
    n_rounds = 0
    while doing.is_alive() or n_rounds < 3:
        assert are_right(fleet)
        n_rounds += 1
    doing.join()

    (answer,) = answers
    assert answer.status == status, answer.text
    assert "Traceback" not in answer.text
    assert code is None or error_of(answer)[2] == code
    again = fleet.invoke("bad", b"x")
    if again.status != 200:  # what the deed has broken lasts until the process is started again
        fleet.unload("bad")
        assert fleet.load("bad").status == 200
        again = fleet.invoke("bad", b"x")
    assert again.text == "here"
    assert fleet.unload("bad").status == 200
    wait_for(lambda: len(fleet.server.process_ids()) == n_processes)
    wait_for(lambda: len(files_of_models(fleet)) == 1)  # of the good one
    wait_for(lambda: fleet.processes("fork-server") == before[1])
    assert sorted(fleet.processes("worker")) == before[0]
    assert are_right(fleet)


# With a user of its own a model is refused all of it.
FORBIDDEN = {
    "memory of the fork server": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "memory of another model": "open(f'/proc/{other}/mem', 'rb')",
    "environment of another model": "open(f'/proc/{other}/environ').read()",
    "log of the server": "open(f'/proc/{os.getppid()}/fd/1', 'w')",
    "registry": "open(glob.glob('/dev/shm/byoa-models-*')[0] + '/registry.sqlite', 'rb')",
    "fork server's socket": "open(glob.glob('/dev/shm/byoa-models-*')[0] + '/fork-server.sock')",
    "signal to the fork server": "os.kill(os.getppid(), signal.SIGTERM)",
    "signal to another model": "os.kill(other, signal.SIGKILL)",
    "another user": "os.setuid(0)",
}


def test_model_with_a_user_of_its_own_reaches_no_other(hostile_fleet: Fleet) -> None:
    """The kernel refuses it memory, files and signals of others (docs/multi_model.md)."""
    fleet = hostile_fleet
    cases = {name: textwrap.dedent(text) for name, text in FORBIDDEN.items()}
    # Never as root, in case that it has no user of its own: it would reach the whole machine.
    deed = f"""
    assert os.getuid() != 0, "no user of its own"
    other = next(
        int(entry) for entry in os.listdir("/proc")
        if entry.isdecimal() and int(entry) != os.getpid()
        and open(f"/proc/{{entry}}/comm").read() == "model-process\\n"
    )
    refused = []
    for name, text in json.loads({json.dumps(json.dumps(cases))}).items():
        try:
            exec(text)
        except OSError as error:
            refused.append(f"{{name}}: {{error.strerror}}")
        else:
            refused.append(f"{{name}}: possible")
    return json.dumps(refused)
    """
    write_bad(fleet, deed)
    assert fleet.load("bad").status == 200

    answer = fleet.invoke("bad", b"deed")

    assert answer.status == 200, answer.text
    seen = dict(line.split(": ") for line in json.loads(answer.body))
    assert set(seen) == set(FORBIDDEN)
    assert set(seen.values()) <= {"Permission denied", "Operation not permitted"}, seen
    assert fleet.unload("bad").status == 200
    assert are_right(fleet)


def test_model_does_not_get_the_user_of_one_that_has_ended(hostile_fleet: Fleet) -> None:
    """It could read the files that the other has left outside its working directory."""
    fleet = hostile_fleet
    users = []
    for _ in range(3):
        write_bad(fleet, "return str(os.getuid())")
        assert fleet.load("bad").status == 200
        users.append(fleet.invoke("bad", b"deed").text)
        assert fleet.unload("bad").status == 200

    assert "0" not in users, "no user of its own"
    assert len(set(users)) == len(users), users


CAREFUL = """
    import concurrent.futures, dataclasses, importlib, multiprocessing, os, pickle, pkgutil
    import random, sqlite3, sys, threading

    import brought
    from helpers import NAME, Point

    def model_fn(model_dir):
        return sqlite3.connect(":memory:", check_same_thread=True)

    def square(number):
        return number * number

    def transform_fn(model, body, content_type, accept):
        import json
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            squares = list(pool.map(square, [1, 2, 3]))
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            points = pool.map(Point, [1, 2])
        return json.dumps([
            squares,
            [point.x for point in points],
            pickle.loads(pickle.dumps(Point(7))).x,
            importlib.import_module("brought.late").VALUE,
            sorted(each.name for each in pkgutil.iter_modules(brought.__path__)),
            model.execute("SELECT 5").fetchone()[0],
            threading.current_thread() is threading.main_thread(),
            NAME,
            os.listdir(),
        ])
"""


def test_code_runs_as_in_any_program(hostile_fleet: Fleet) -> None:
    """Process pools, pickles, importlib, pkgutil, objects of the main thread; and equal names of
    modules in two models (C-089).
    """
    fleet = hostile_fleet
    for name in ("one", "two"):
        fleet.write(
            name,
            {
                "code/inference.py": CAREFUL,
                "code/helpers.py": "import dataclasses\n@dataclasses.dataclass\nclass Point:\n"
                f"    x: int\nNAME = {name!r}\n",
                "code/lib/brought/__init__.py": "",
                "code/lib/brought/late.py": f"VALUE = 'late of {name}'\n",
            },
        )
        assert fleet.load(name).status == 200
    for name in ("one", "two", "one"):
        answer = fleet.invoke(name, b"x")

        assert answer.status == 200, answer.text
        assert json.loads(answer.body) == [
            *([1, 4, 9], [1, 2], 7, f"late of {name}", ["late"], 5, True, name, [])
        ]
    for name in ("one", "two"):
        assert fleet.unload(name).status == 200


@pytest.mark.docker_cases(0)  # the package is compiled for this Python, not for the image's
def test_two_models_bring_a_compiled_package_each(hostile_fleet: Fleet) -> None:
    """One whose parts import each other by name, and load libraries that lie beside them."""
    fleet = hostile_fleet
    installed = Path(PIL.__file__).parents[1]
    for name in ("first", "second"):
        fleet.write(name, {"code/inference.py": DRAWS})
        brought = fleet.path(name) / "code" / "lib"
        # Under a name of its own: packages of the image come before those that a model brings.
        shutil.copytree(installed / "PIL", brought / "pictures")
        shutil.copytree(installed / "pillow.libs", brought / "pillow.libs")
        assert fleet.load(name).status == 200

    for name in ("first", "second", "first"):
        answer = fleet.invoke(name, b"x")
        assert answer.status == 200, answer.text
        where, height = answer.text.split()
        assert Path(where) == fleet.path(name) / "code" / "lib" / "pictures" / "__init__.py"
        assert int(height) == 7
    for name in ("first", "second"):
        assert fleet.unload(name).status == 200


def test_crashes_in_a_row_are_told(hostile_fleet: Fleet) -> None:
    """`GET /models/NAME` and the log tell of three; an answer ends the row."""
    fleet = hostile_fleet
    write_bad(fleet, "os._exit(3)")
    assert fleet.load("bad").status == 200
    for _ in range(2):
        assert fleet.invoke("bad", b"deed").status == 500
    assert "crashes" not in json.loads(fleet.describe("bad").body)

    assert fleet.invoke("bad", b"deed").status == 500

    told = json.loads(fleet.describe("bad").body)["crashes"]
    assert told == {"inARow": 3, "lastReason": "exit code 3"}
    fleet.server.wait_for_output('"n_in_a_row": 3')
    assert fleet.invoke("bad", b"x").text == "here"
    assert "crashes" not in json.loads(fleet.describe("bad").body)
    assert fleet.unload("bad").status == 200


def test_output_of_the_code_is_labelled(hostile_fleet: Fleet) -> None:
    """Prints, warnings and log lines become lines of the log with the model's name (C-008)."""
    fleet = hostile_fleet
    write_bad(fleet, "print('{\"event\": \"forged\"}'); logging.getLogger('mine').warning('noted')")
    assert fleet.load("bad").status == 200
    fleet.invoke("bad", b"deed")

    fleet.server.wait_for_output("WARNING mine noted")

    lines = [json.loads(line) for line in fleet.server.output().splitlines() if line[:1] == "{"]
    assert not [line for line in lines if line.get("event") == "forged"]
    texts = [line["text"] for line in lines if line.get("model_name") == "bad" and "text" in line]
    assert '{"event": "forged"}' in texts
    assert fleet.unload("bad").status == 200


DRAWS = """
    import io

    import pictures
    from pictures import Image

    def model_fn(model_dir):
        return Image.new("L", (5, 7))

    def transform_fn(model, body, content_type, accept):
        stream = io.BytesIO()
        model.save(stream, "PNG")
        return f"{pictures.__file__} {Image.open(stream).height}"
"""


def test_daemon_of_a_model_does_not_outlive_the_fork_server(hostile_fleet: Fleet) -> None:
    """Whatever session it is in, it ends when the fork server is killed."""
    fleet, seconds = hostile_fleet, f"1000.{time.time_ns()}"
    deed = f"import subprocess; subprocess.Popen(['sleep', '{seconds}'], start_new_session=True)"
    write_bad(fleet, deed)
    assert fleet.load("bad").status == 200
    assert fleet.invoke("bad", b"deed").status == 200
    wait_for(lambda: len(sleepers(seconds)) == 1)

    fleet.kill("fork-server")

    wait_for(lambda: sleepers(seconds) == [])
    wait_for(lambda: fleet.invoke("bad", b"x").status == 200)
    wait_for(lambda: fleet.invoke("code", b"x").status == 200)
    assert fleet.unload("bad").status == 200


def sleepers(seconds: str) -> list[int]:
    """Find `sleep` with this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # ended since the listing, or no process
            if (entry / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(entry.name))
    return found


def test_loads_and_unloads_leave_nothing(hostile_fleet: Fleet) -> None:
    """30 cycles of a model with code: no process, descriptor or file more."""
    fleet = hostile_fleet
    fleet.write("cycled", {"code/inference.py": GOOD})

    def cycle() -> None:
        assert fleet.load("cycled").status == 200
        assert fleet.invoke("cycled", b"x").text == "good"
        assert fleet.unload("cycled").status == 200

    def descriptors() -> int:
        """Count pipes and sockets: each thread of a worker opens the registry once."""
        ids = [*fleet.processes("worker"), *fleet.processes("fork-server")]
        n_found = 0
        for link in (link for each in ids for link in Path(f"/proc/{each}/fd").iterdir()):
            with contextlib.suppress(OSError):  # closed since the listing
                n_found += str(link.readlink()).startswith(("pipe:", "socket:"))
        return n_found

    cycle()
    wait_for(lambda: len(fleet.processes("model-process")) == 1)
    before = descriptors()
    for _ in range(30):
        cycle()

    wait_for(lambda: len(fleet.processes("model-process")) == 1)
    wait_for(lambda: descriptors() <= before)
