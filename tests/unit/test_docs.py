"""The reference pages name everything the program takes, with its real default."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tests.support.documents import DOCS, ROOT, rows, sections
from tests.support.messages import Finding, findings, written_texts
from xbtmigrate import errors, registry
from xbtmigrate.cli.app import app, command_of
from xbtmigrate.cli.verbs import VERBS
from xbtmigrate.config import Config

PROGRAM = typer.main.get_command(app)
COMMANDS = {name: command_of(name) for name in VERBS}
ROOT_OPTIONS = [option.opts[0] for option in PROGRAM.params]
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *ROOT.glob("examples/*/README.md")])
RESEARCH = "plugins/xbtmigrate-research"
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.XbtMigrateError)
}
SECTIONS = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)
}


def encoder_names() -> list[str]:
    """Encoders of the package and of every plugin in this repository."""
    projects = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    groups = map(entry_points_of, projects)
    return sorted(name for group in groups for name in group.get(registry.ENCODERS, {}))


def entry_points_of(project: Path) -> dict[str, dict[str, str]]:
    """What a pyproject.toml offers, by group."""
    return tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"]


def shown(default: Any) -> str:
    """A default as the tables write it."""
    if default in (inspect.Parameter.empty, PydanticUndefined):
        return "required"
    return "unset" if default is None else f"`{json.dumps(default)}`"


def test_the_configuration_has_the_sections_that_are_compared():
    assert set(SECTIONS) == {"qdrant", "payload", "old_model", "new_model", "plan", "serving"}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_configuration_is_described(section: str):
    described = rows(sections(DOCS / "configuration.md")[f"[{section}]"])
    expected = {
        name: shown(field.default) for name, field in SECTIONS[section].model_fields.items()
    }
    assert {name: cells[1] for name, cells in described.items()} == expected


@pytest.mark.parametrize("encoder", encoder_names())
def test_every_option_of_an_encoder_is_described(encoder: str):
    described = rows(sections(DOCS / "configuration.md")[encoder])
    parameters = inspect.signature(registry.load(registry.ENCODERS, encoder)).parameters
    expected = {name: shown(parameter.default) for name, parameter in parameters.items()}
    assert {name: cells[1] for name, cells in described.items()} == expected


@pytest.mark.parametrize(
    ("page", "section", "project"),
    [
        ("docs/projectors.md", "Kinds", "pyproject.toml"),
        (f"{RESEARCH}/README.md", "Kinds of projector", f"{RESEARCH}/pyproject.toml"),
    ],
)
def test_every_kind_of_projector_is_described_with_its_directions(page, section, project):
    described = rows(sections(ROOT / page)[section])
    names = entry_points_of(ROOT / project).get(registry.PROJECTORS, {})
    real = {name: registry.load(registry.PROJECTORS, name) for name in names}
    expected = {
        name: "both" if len(kind.directions) == 2 else kind.directions[0].value
        for name, kind in real.items()
    }
    assert {name: cells[0] for name, cells in described.items()} == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_described(command: str):
    pages = sections(DOCS / "commands.md")
    shared, own = rows(pages["Commands"]), rows(pages[command])
    described = shared | own
    real = {
        option.opts[0]: option
        for option in COMMANDS[command].params
        # Former spellings go on working without being taught.
        if not getattr(option, "hidden", False)
    }
    assert set(own) <= set(real)
    assert set(real) <= set(described)
    for name, option in real.items():
        if isinstance(option.default, int | str | Path) and not isinstance(option.default, bool):
            assert str(option.default) == described[name][0].strip("`"), name


def test_there_is_no_section_for_a_command_that_does_not_exist():
    assert set(sections(DOCS / "commands.md")) == {"Commands", *COMMANDS}


def test_the_options_without_a_command_are_described():
    text = sections(DOCS / "commands.md")["Commands"]
    assert [option for option in ROOT_OPTIONS if f"`{option}`" not in text] == []


@pytest.mark.parametrize("module", ["xbtmigrate", "xbtmigrate.serving"])
def test_every_public_name_of_python_is_described(module: str):
    described = rows(sections(DOCS / "python.md")[module])
    assert set(described) == set(importlib.import_module(module).__all__)


def test_every_error_is_described_with_its_exit_code():
    described = rows(sections(DOCS / "output.md")["Errors"])
    real = {name: str(kind.exit_code) for name, kind in ERRORS.items()}
    assert {name: described[name][0] for name in real} == real


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.name)
def test_every_finding_of_doctor_is_explained_under_the_text_that_it_prints(finding: Finding):
    entry = " ".join(sections(DOCS / "troubleshooting.md")[finding.name].split())
    assert [
        part for part in ("**Prints:**", "**Cause:**", "**Way out:**") if part not in entry
    ] == []
    assert finding.text in entry
    assert not finding.fixable or "xbtmigrate doctor --yes" in entry


def test_no_finding_is_explained_that_doctor_does_not_know():
    pages = sections(DOCS / "troubleshooting.md")
    explained = [name for name in pages if re.fullmatch(r"[a-z_]+", name)]
    assert sorted(explained) == sorted({finding.name for finding in findings()})


def test_every_error_is_explained_with_its_exit_code():
    pages = sections(DOCS / "troubleshooting.md")
    for name, kind in ERRORS.items():
        assert pages[name].strip().startswith(f"Exit code {kind.exit_code}."), name


def test_the_messages_that_are_explained_are_those_of_the_code():
    pages = sections(DOCS / "troubleshooting.md")
    explained = [
        printed
        for name in ERRORS
        for printed in re.findall(r"^\| `(.+?)` \|", pages[name], flags=re.MULTILINE)
    ]
    # What varies is written as …, so the longest part without it identifies a message.
    found = {each: max(re.split(r"[`…]+", each), key=len).strip(" :',") for each in explained}
    texts = "\n".join(written_texts())
    assert [each for each, part in found.items() if part not in texts] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_wraps_at_100_columns(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in prose.splitlines() if len(line) > 100]
    assert [line for line in lines if not re.match(r"\||.*https?:", line)] == []
