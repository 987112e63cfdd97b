"""A server with TLS of a private authority and an API key: every command works, no key gets out."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.support.command import inside
from tests.support.qdrant_server import Server, running_server
from tests.support.texts import Texts, embedding_service, write_text_config
from xbtmigrate.errors import ConfigError, ConnectionFailedError
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.writer import reaches_same_server

pytestmark = pytest.mark.server
COUNT = 300
NAME = "guarded"


@dataclass(frozen=True)
class Guarded:
    """A server that answers only over TLS and only with its key."""

    server: Server
    key: str
    ca_file: Path

    def open(self, **options) -> Connection:
        options = {"api_key": self.key, "ca_file": self.ca_file} | options
        return connect(self.server.url, grpc_port=self.server.grpc_port, **options)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("authority")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(folder / "server.pem", append=number > 0)
    key = secrets.token_hex(16)
    settings = {
        "QDRANT__SERVICE__API_KEY": key,
        "QDRANT__SERVICE__ENABLE_TLS": "true",
        "QDRANT__TLS__CERT": str(folder / "server.pem"),
        "QDRANT__TLS__KEY": str(folder / "server.key"),
        "QDRANT__TLS__CA_CERT": str(folder / "ca.pem"),
    }
    with running_server(settings) as server:
        yield Guarded(server, key, folder / "ca.pem")


def test_rest_and_both_grpc_channels_trust_the_named_authority(guarded: Guarded):
    with guarded.open() as connection:
        assert connection.rest is not None
        assert connection.rpc is not None
        assert reaches_same_server(connection, connection.rpc)
    with guarded.open(prefer_grpc=True) as connection:
        assert connection.client.get_collections() is not None


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_an_unknown_authority_is_refused(guarded: Guarded, prefer_grpc: bool):
    with pytest.raises(ConnectionFailedError) as caught:
        guarded.open(ca_file=None, prefer_grpc=prefer_grpc)
    assert caught.value.hint


def test_the_environment_may_name_the_authority(guarded: Guarded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.ca_file))
    with guarded.open(ca_file=None) as connection:
        assert connection.rpc is not None
        assert reaches_same_server(connection, connection.rpc)


def test_a_file_without_certificates_is_an_error_of_usage(guarded: Guarded, tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigError, match=name):
            guarded.open(ca_file=tmp_path / name)


def test_a_wrong_key_is_refused_and_not_repeated(guarded: Guarded):
    with pytest.raises(ConnectionFailedError) as caught:
        guarded.open(api_key="wrong-key-of-the-user")
    assert "wrong-key" not in caught.value.message + caught.value.hint


def settings(folder: Path, guarded: Guarded, key: str) -> None:
    """Add the port, the authority and the key to the configuration."""
    file = folder / "xbtmigrate.toml"
    added = f'{key}\nca_file = "{guarded.ca_file}"\ngrpc_port = {guarded.server.grpc_port}\n'
    text = file.read_text("utf-8").replace('vector = "old"\n', f'vector = "old"\n{added}', 1)
    file.write_text(text, "utf-8")


def test_no_command_lets_the_key_out(guarded: Guarded, tmp_path: Path):
    texts = Texts.make(COUNT)
    said = []
    (tmp_path / "key").write_text(guarded.key + "\n")
    init = ("init", "--url", guarded.server.url, "--collection", NAME, "--vector", "old")
    trust = ("--api-key-file", "key", "--ca-file", guarded.ca_file)
    commands = [
        ("plan", "--out", "copy.json"),
        ("train-projector", "--kind", "ridge", "--pairs", "100"),
        ("bench", "--yes", "--sample", "256"),
        ("backfill",),
        ("backfill", "--online", "--fraction", "0.5"),
        ("status",),
        ("status", "--json"),
        ("verify",),
        ("evaluate",),
        ("pause",),
        ("resume",),
        ("throttle", "--off"),
    ]
    with embedding_service() as service, guarded.open() as connection:
        texts.fill(connection.client, NAME, both=True)
        said += inside(*init, *trust, "--config", "new.toml", cwd=tmp_path)[1:]
        assert (tmp_path / "new.toml").exists(), said
        write_text_config(tmp_path, guarded.server.url, NAME, texts, service, layout="in_place")
        settings(tmp_path, guarded, 'api_key_file = "key"')
        for command in commands:
            code, out, err = inside(*command, cwd=tmp_path)
            said += [out, err]
            expected = (3,) if command[0] in ("pause", "resume", "throttle") else (0, 3)
            assert code in expected, (command, err)
        (tmp_path / "key").write_text(guarded.key[::-1])
        _, out, err = inside("status", cwd=tmp_path)
        said += [out, err]
        assert "refused the credentials" in err
        journal, _ = connection.client.scroll("_xbtmigrate", limit=100, with_payload=True)
        loads = [each.payload for each in journal if each.payload["kind"] == "load"]
    (tmp_path / "key").unlink()
    assert loads[0]["baseline_p95_ms"] > 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    for key in (guarded.key, guarded.key[::-1]):
        assert [path for path in files if key.encode() in path.read_bytes()] == []
        assert [text for text in said if key in text] == []
        assert key not in str([each.payload for each in journal])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('api_key_file = "absent"', "cannot be read"),
        ('api_key_file = "empty"', "does not hold a key"),
        ('api_key_file = "empty"\napi_key_env = "KEY"', "name two keys"),
        ('api_key = "hunter2-secret"', "unknown key"),
        ('url = "https://user:hunter2-secret@host"', "no user or password"),
    ],
)
def test_a_key_in_the_wrong_place_is_refused_without_showing_it(
    lines: str, problem: str, tmp_path: Path
):
    (tmp_path / "empty").write_text("\n")
    address = "" if lines.startswith("url") else 'url = "http://127.0.0.1:1"'
    (tmp_path / "old.parquet").touch()
    (tmp_path / "xbtmigrate.toml").write_text(
        f"""
[qdrant]
{address}
{lines}
collection = "c"
[payload]
text = "text"
[old_model]
encoder = "precomputed"
path = "old.parquet"
stored = "text"
[new_model]
encoder = "precomputed"
path = "old.parquet"
"""
    )
    code, out, err = inside("status", cwd=tmp_path)
    assert (code, problem in err) == (2, True), err
    assert "hunter2-secret" not in out + err


class Planted:
    """Unpickling it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def planned(qdrant_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded migration with every artefact a backfill reads."""
    from qdrant_client import QdrantClient

    folder, texts = tmp_path_factory.mktemp("planted"), Texts.make(COUNT)
    client = QdrantClient(path=str(folder / "qdrant"))
    texts.fill(client, NAME, both=True)
    client.close()
    with embedding_service() as service:
        write_text_config(folder, "path:qdrant", NAME, texts, service, layout="in_place")
        for command in (
            ("plan",),
            ("train-projector", "--kind", "ridge", "--pairs", "100"),
            ("backfill", "--online", "--fraction", "0.1"),
        ):
            code, _, err = inside(*command, cwd=folder)
            assert code == 0, err
    return folder


def test_a_planted_pickle_is_never_loaded(planned: Path, tmp_path: Path):
    """Each artefact in turn is replaced by a pickle; no command runs it."""
    trace = tmp_path / "trace"
    poison = pickle.dumps(Planted(trace))
    assert b"touch" in poison
    artefacts = [path for path in planned.glob(".xbtmigrate/**/*") if path.is_file()]
    assert len(artefacts) >= 5
    for path in artefacts:
        content = path.read_bytes()
        path.write_bytes(poison)
        try:
            for command in (("status",), ("backfill", "--online", "--fraction", "0.1")):
                _, _, err = inside(*command, cwd=planned)
                assert "Traceback" not in err, (path, err)
                assert not trace.exists(), path
        finally:
            path.write_bytes(content)
    pickle.loads(poison)
    assert trace.exists()
