"""Configuration of multi-model-server: its command, properties, logging and model store.

<working directory>/
    config.properties    the settings under multi-model-server's names
    log4j2.xml           logs to standard output, a JSON object a line
    store/               links to the directories from which models may be loaded
    .mms.sock.*          sockets of server and workers, which need a directory of their own
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
# multi-model-server refuses higher ports: "Invalid port number".
_MAX_PORT = 32766
_MAX_INTEGER = 2**31 - 1
_LEAST_HEAP_BYTES = 128 * 2**20
# A body is held as it arrives, once more whole, and once more on its way to the worker.
_BODIES_IN_HEAP = 4
# Log lines of the workers are JSON already and pass unchanged; all others get the same form.
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
    """A program with its arguments and environment."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def check(settings: Settings) -> None:
    """Refuse settings that multi-model-server would refuse with a stack trace.

    Raises:
        SettingsError: the port is too high for it.
    """
    if settings.port > _MAX_PORT:
        raise SettingsError(
            "SAGEMAKER_BIND_TO_PORT",
            str(settings.port),
            f"a port up to {_MAX_PORT}, the highest of multi-model-server, or another engine "
            "(BYOA_MULTI_MODEL_ENGINE=gunicorn)",
        )


def prepare(settings: Settings, work_dir: Path, python: str, environ: Mapping[str, str]) -> Command:
    """Write the files below `work_dir` and return the command that reads them.

    Args:
        work_dir: An empty directory; also the temporary directory of the server and its workers.
        python: The interpreter of the workers.
        environ: Environment that the server and its workers inherit.
    Raises:
        PlatformError: Java or multi-model-server is not installed.
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
            "PYTHONSAFEPATH": "1",  # the directory of its worker script has modules called `utils`
            "TMPDIR": str(work_dir),
        },
    )


def properties(settings: Settings, store: Path) -> dict[str, str | int]:
    """Return the settings under multi-model-server's names.

    Source: multi-model-server 1.1.11, `ConfigManager` and the page on configuration.
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
    """Make the model store: a directory with links to `roots` only, at their absolute paths.

    multi-model-server looks up the `url` of a model below its model store. A store of `/`, as in
    AWS's images, would let a client load any directory of the file system.
    """
    for root in sorted(roots):
        link = store / root.relative_to("/")
        # A root below another one is reached by the other's link.
        if not any(path.is_symlink() for path in (link, *link.parents)):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root)


def _jvm_options(settings: Settings) -> tuple[str, ...]:
    heap_mebibytes = heap_bytes(settings.max_payload_bytes, cgroup.memory_bytes()) // 2**20
    return (
        f"-Xmx{heap_mebibytes}m",
        f"-XX:MaxDirectMemorySize={heap_mebibytes}m",
        "-XX:-UsePerfData",  # no file for monitoring in /tmp
        # It would download a `url` that begins with http:// and run the code in it. A proxy on a
        # port where nobody listens makes every download fail.
        *("-Dhttp.proxyHost=127.0.0.1", "-Dhttp.proxyPort=1", "-Dhttp.nonProxyHosts="),
        *("-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=1"),
    )


def heap_bytes(max_payload_bytes: int, memory_bytes: int) -> int:
    """Return the limit of the JVM's heap in bytes: a few bodies, within a quarter of the memory."""
    wanted = max(_LEAST_HEAP_BYTES, _BODIES_IN_HEAP * max_payload_bytes)
    return min(wanted, max(memory_bytes // 4, _LEAST_HEAP_BYTES))


def _java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java", path=environ.get("PATH"))
    if java is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise PlatformError(f"{_ENGINE} needs Java, which is not in {where}; {_REMEDY}")
    return java


def _server_home() -> Path:
    """Return the directory that holds the package `mms`, without importing it."""
    found = find_spec("mms")
    if found is None or found.origin is None:
        raise PlatformError(
            f"{_ENGINE} needs the package multi-model-server, which is not installed; {_REMEDY}"
        )
    return Path(found.origin).parents[1]


def _lines(values: Mapping[str, str | int]) -> str:
    """Return the text of a properties file, with backslashes escaped."""
    escaped = ((name, str(value).replace("\\", "\\\\")) for name, value in values.items())
    return "".join(f"{name}={value}\n" for name, value in escaped)


def _log_level(level: int) -> str:
    names = ((10, "debug"), (20, "info"), (30, "warn"), (40, "error"))
    return next((name for limit, name in names if level <= limit), "fatal")
