"""The code blocks of the documentation: commands that exist, valid configuration, imports."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import DOCS, ROOT
from xbtmigrate import registry
from xbtmigrate.cli.app import command_of
from xbtmigrate.config import load_config

PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *DOCS.rglob("*.md"),
    *ROOT.glob("examples/*/README.md"),
    *ROOT.glob("plugins/*/README.md"),
]
BASE: dict[str, dict[str, Any]] = {
    "qdrant": {"url": "http://127.0.0.1:6333", "collection": "packages"},
    "payload": {"text": "description", "image": "image"},
    "old_model": {"encoder": "precomputed", "path": "old.parquet", "stored": "text"},
    "new_model": {"encoder": "precomputed", "path": "new.parquet"},
}
LIBRARIES = ("xbtmigrate", "qdrant_client")
MODELS = {"old_model", "new_model"}


def blocks(*languages: str) -> Iterator[Any]:
    """Blocks of code in some languages, each named by its page and line."""
    for page in sorted(PAGES):
        text = page.read_text("utf-8")
        for block in re.finditer(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            if block[1] in languages:
                line = text[: block.start()].count("\n") + 1
                yield pytest.param(block[2], id=f"{page.relative_to(ROOT)}:{line}")


def commands(block: str) -> list[list[str]]:
    """Arguments of each call of xbtmigrate in a block of shell."""
    lines = block.replace("\\\n", " ").splitlines()
    calls = [shlex.split(line, comments=True) for line in lines if "xbtmigrate " in line]
    # `uvx --from . xbtmigrate demo` is one, `pip install xbtmigrate-openai` is none.
    return [call[call.index("xbtmigrate") + 1 :] for call in calls if "xbtmigrate" in call]


@pytest.mark.parametrize("block", list(blocks("console", "sh", "bash")))
def test_commands_and_their_options_exist(block: str):
    for name, *given in commands(block):
        arguments = given[: given.index(">")] if ">" in given else given
        # Parses as the command line does, without running the command.
        command_of(name).make_context(name, arguments)


@pytest.mark.parametrize("block", list(blocks("toml")))
def test_configuration_is_valid_on_its_own_or_within_a_complete_one(block: str, tmp_path: Path):
    given = tomllib.loads(block)
    merged = {name: dict(keys) for name, keys in BASE.items()}
    merged |= {name: BASE.get(name, {}) | keys for name, keys in given.items()}
    for name in MODELS & given.keys():
        # A plugin may be missing here; where it is installed its options are checked, too.
        known = given[name].get("encoder") in registry.list_names(registry.ENCODERS)
        stored = {"stored": "text"} if name == "old_model" else {}
        merged[name] = stored | given[name] if known else BASE[name]
    many = merged["qdrant"].get("collections")
    if many:
        merged["qdrant"].pop("collection")
    file = tmp_path / "xbtmigrate.toml"
    # JSON spells these values as TOML does.
    file.write_text(
        "".join(
            "".join([f"[{name}]\n", *(f"{key} = {json.dumps(keys[key])}\n" for key in keys)])
            for name, keys in merged.items()
        ),
        "utf-8",
    )
    load_config(file, many and many[0])


@pytest.mark.parametrize("block", list(blocks("python")))
def test_python_compiles_and_its_imports_exist(block: str):
    code = compile(block, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(code):
        # Frameworks come with the long tests only; these two are always there.
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in LIBRARIES:
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
