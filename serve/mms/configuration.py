"""How multi-model-server is started: its command, its properties, its logs, its view of the disk.

<working directory>/
    config.properties    what the settings ask for, in multi-model-server's words
    log4j2.xml           everything to standard output, a JSON object a line
    store/               links to the directories that models may be loaded from
    .mms.sock.*          between the server and the workers; so it is theirs alone
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from container import cgroup
from container.errors import PlatformError, SettingsError
from container.settings import Settings

HANDLER = "serve.mms.handler:handle"
_PROGRAM_DIR = Path(__file__).parents[2]
_ENGINE = "BYOA_MULTI_MODEL_ENGINE=mms"
_REMEDY = "run the full image, or choose BYOA_MULTI_MODEL_ENGINE=gunicorn"
# It refuses higher ones: "Invalid port number".
_MAX_PORT = 32766
_MAX_INTEGER = 2**31 - 1
_LEAST_HEAP_BYTES = 128 * 2**20
# A body is held as it arrives, once more whole, and once more on its way to the worker.
_BODIES_IN_HEAP = 4
# What the workers log is JSON already and passes as it is; all else becomes the same form.
_LOG_CONFIGURATION = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="workers" target="SYSTEM_OUT">
      <RegexFilter regex="\\{{&quot;.*" onMatch="ACCEPT" onMismatch="DENY"/>
      <PatternLayout pattern="%m%n"/>
    </Console>
    <Console name="server" target="SYSTEM_OUT">
      <Filters>
        <RegexFilter regex="\\{{&quot;.*" onMatch="DENY" onMismatch="NEUTRAL"/>
        <RegexFilter regex="(attach|terminate)IOStreams.*" onMatch="DENY" onMismatch="NEUTRAL"/>
      </Filters>
      <PatternLayout alwaysWriteExceptions="false" pattern="{{&quot;time&quot;: \
&quot;%d{{yyyy-MM-dd'T'HH:mm:ss.SSS}}{{UTC}}+00:00&quot;, &quot;level&quot;: &quot;%p&quot;, \
&quot;logger&quot;: &quot;%c&quot;, &quot;event&quot;: &quot;multi_model_server&quot;, \
&quot;thread&quot;: &quot;%enc{{%t}}{{JSON}}&quot;, \
&quot;message&quot;: &quot;%enc{{%m}}{{JSON}}&quot;, \
&quot;exc_info&quot;: &quot;%enc{{%ex}}{{JSON}}&quot;}}%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="MMS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Logger name="com.amazonaws.ml.mms.wlm.WorkerThread" level="warn"/>
    <Logger name="com.amazonaws.ml.mms.wlm.WorkerLifeCycle" level="info"/>
    <Root level="{level}">
      <AppenderRef ref="workers"/>
      <AppenderRef ref="server"/>
    </Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def check(settings: Settings) -> None:
    """Say what multi-model-server would only say in a stack trace.

    Raises:
        SettingsError: a setting that it cannot have.
    """
    if settings.port > _MAX_PORT:
        raise SettingsError(
            "SAGEMAKER_BIND_TO_PORT",
            str(settings.port),
            f"a port up to {_MAX_PORT}, which is as far as multi-model-server goes, or another "
            "engine (BYOA_MULTI_MODEL_ENGINE=gunicorn)",
        )


def prepare(settings: Settings, work_dir: Path, python: str, environ: Mapping[str, str]) -> Command:
    """Write the files below `work_dir` and return the command that reads them.

    Args:
        work_dir: An empty directory; also the temporary directory of the server and its workers.
        python: The interpreter of the workers.
        environ: What the server and its workers inherit.
    Raises:
        PlatformError: there is no Java or no multi-model-server.
    """
    java, home = _java(environ), _server_home()
    store = work_dir / "store"
    link_roots(store, settings.model_roots)
    properties_file = work_dir / "config.properties"
    properties_file.write_text(_lines(properties(settings, store)))
    log_file = work_dir / "log4j2.xml"
    log_file.write_text(_LOG_CONFIGURATION.format(level=_log_level(settings.log_level)))
    python_path = [str(_PROGRAM_DIR), environ.get("PYTHONPATH", "")]
    return Command(
        java,
        (
            java,
            *_jvm_options(settings),
            f"-Dmodel_server_home={home}",
            f"-Dlog4j.configurationFile=file://{log_file}",
            f"-Djava.io.tmpdir={work_dir}",
            *("-cp", f"{home}/mms/frontend/*", "com.amazonaws.ml.mms.ModelServer"),
            *("--python", python, "-f", str(properties_file)),
        ),
        {
            **environ,
            "PYTHONPATH": ":".join(filter(None, python_path)),
            "TMPDIR": str(work_dir),
        },
    )


def properties(settings: Settings, store: Path) -> dict[str, str | int]:
    """The settings in multi-model-server's words.

    Source: multi-model-server 1.1.11, `docs/configuration.md` and `ConfigManager`.
    """
    address = f"http://0.0.0.0:{settings.port}"
    return {
        "inference_address": address,
        "management_address": address,  # SageMaker knows one port
        "model_store": str(store),
        "load_models": "",
        "default_service_handler": HANDLER,
        # One process for each model, as in AWS's own multi-model images.
        "default_workers_per_model": settings.workers or 1,
        "default_response_timeout_seconds": settings.timeout_seconds,
        "unregister_model_timeout": settings.timeout_seconds,
        "job_queue_size": max(settings.max_waiting, 1),
        "max_request_size": settings.max_payload_bytes or _MAX_INTEGER,
        "max_response_size": _MAX_INTEGER,
        "decode_input_request": "false",  # the codecs want bytes
        "metric_time_interval": _MAX_INTEGER // 1000,  # seconds; a Python process each time
    }


def link_roots(store: Path, roots: tuple[Path, ...]) -> None:
    """Make `store`, in which multi-model-server finds nothing but `roots`, under their own paths.

    It looks for the `url` of a model below its model store, and would load any directory of the
    machine if that were `/`, as AWS's images have it.
    """
    for root in sorted(roots):
        link = store / root.relative_to("/")
        if not any(path.is_symlink() for path in (link, *link.parents)):  # below another root
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root)


def _jvm_options(settings: Settings) -> tuple[str, ...]:
    heap_mebibytes = heap_bytes(settings.max_payload_bytes, cgroup.memory_bytes()) // 2**20
    return (
        f"-Xmx{heap_mebibytes}m",
        f"-XX:MaxDirectMemorySize={heap_mebibytes}m",
        "-XX:-UsePerfData",  # a file in /tmp that nobody reads
        # A `url` that begins with http:// it would download from anywhere, and run what it gets.
        # Its client is sent to a port where nobody listens.
        *("-Dhttp.proxyHost=127.0.0.1", "-Dhttp.proxyPort=1", "-Dhttp.nonProxyHosts="),
        *("-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=1"),
    )


def heap_bytes(max_payload_bytes: int, memory_bytes: int) -> int:
    """The most that the heap of the JVM may grow to: a few bodies, a quarter of the memory."""
    wanted = max(_LEAST_HEAP_BYTES, _BODIES_IN_HEAP * max_payload_bytes)
    return min(wanted, max(memory_bytes // 4, _LEAST_HEAP_BYTES))


def _java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java", path=environ.get("PATH"))
    if java is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise PlatformError(f"{_ENGINE} needs Java, and there is none in {where}; {_REMEDY}")
    return java


def _server_home() -> Path:
    """The directory that holds the package `mms`, which is found and not imported."""
    found = find_spec("mms")
    if found is None or found.origin is None:
        raise PlatformError(f"{_ENGINE} needs the package multi-model-server; {_REMEDY}")
    return Path(found.origin).parents[1]


def _lines(values: Mapping[str, str | int]) -> str:
    """A properties file; in its values a backslash would be an escape."""
    escaped = ((name, str(value).replace("\\", "\\\\")) for name, value in values.items())
    return "".join(f"{name}={value}\n" for name, value in escaped)


def _log_level(level: int) -> str:
    names = ((10, "debug"), (20, "info"), (30, "warn"), (40, "error"))
    return next((name for limit, name in names if level <= limit), "fatal")
