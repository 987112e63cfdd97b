"""One language of flags: each verb takes the shared ones, and former spellings go on working."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import inside
from xbtmigrate.cli import render, verbs
from xbtmigrate.cli.app import FORMER, command_of
from xbtmigrate.cli.verbs import DOCS, STEPS, VERBS, help_page

ROOT = Path(__file__).parents[3]


def spellings(name: str) -> dict[str, Any]:
    found = {}
    for option in command_of(name).params:
        for spelling in (*option.opts, *option.secondary_opts):
            found[spelling] = option
    return found


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_takes_the_shared_flags(name: str):
    shared = {"--quiet", "-q", "--verbose", "-v", "--progress", "--no-progress", "--no-color"}
    assert {*shared, "--dry-run"} <= set(spellings(name))


@pytest.mark.parametrize("name", VERBS)
def test_to_do_it_is_spelt_in_one_way(name: str):
    given = spellings(name)
    assert not {"--fix", "--repair", "--write"} & set(given)
    pair = given["--dry-run"]
    # What is only shown by default names the flag that does it.
    if pair.secondary_opts:
        assert pair.opts == (["--online"] if name == "backfill" else ["--yes"])
        assert pair.default is False


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_ends_in_an_example_and_a_page(name: str, tmp_path: Path):
    code, out, _ = inside(name, "--help", cwd=tmp_path)
    assert code == 0
    assert f"Example: xbtmigrate {name}" in out
    assert f"Documentation: {DOCS}#{name}\n" in out
    assert f"\n## {name}\n" in (ROOT / DOCS).read_text("utf-8")
    assert "<int" not in out
    assert "<float" not in out
    assert "<path" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", VERBS)
def test_the_example_of_a_verb_parses(name: str):
    import shlex

    words = shlex.split(VERBS[name].example)
    command_of(name).make_context(name, words, resilient_parsing=False)


def test_the_page_groups_the_verbs_by_step(tmp_path: Path):
    page = help_page()
    assert inside("--help", cwd=tmp_path) == (0, page, "")
    assert inside("--no-such", "--help", cwd=tmp_path)[0] != 0
    assert all(f"\n{title}:\n" in page for title in STEPS.values())
    assert all(f"\n  {name} " in page for name in VERBS)
    assert max(map(len, page.splitlines())) <= 80
    assert inside("-h", cwd=tmp_path)[1] == page


def test_a_bare_call_shows_the_page_and_fails(tmp_path: Path):
    assert inside(cwd=tmp_path) == (2, "", help_page())


def test_a_mistyped_verb_is_answered_with_the_nearest(tmp_path: Path):
    code, _, err = inside("statsu", cwd=tmp_path)
    assert code == 2
    assert "'status'" in err


@pytest.mark.parametrize(("name", "former"), [(a, b) for a in FORMER for b in FORMER[a]])
def test_a_former_spelling_means_what_it_did(name: str, former: str):
    present = FORMER[name][former]
    given = command_of(name).make_context(name, [former]).params
    assert given == command_of(name).make_context(name, [present]).params
    assert given != command_of(name).make_context(name, []).params


def test_a_dry_run_of_a_verb_without_one_of_its_own_does_nothing(tmp_path: Path):
    code, out, _ = inside("demo", "--dry-run", cwd=tmp_path)
    assert (code, out) == (0, f"`xbtmigrate demo` {VERBS['demo'].effect}. Nothing was done.\n")
    assert list(tmp_path.iterdir()) == []


def test_details_show_where_an_error_came_from(tmp_path: Path):
    _, _, short = inside("status", cwd=tmp_path)
    _, _, long = inside("status", "-v", cwd=tmp_path)
    assert "Traceback" not in short
    assert "Traceback" in long
    assert long.endswith(short)


@pytest.mark.parametrize(
    ("flags", "level", "style"),
    [((), "INFO", "auto"), (("-q",), "WARNING", "none"), (("--no-progress",), "INFO", "none")],
)
def test_flags_set_the_log_and_the_progress(
    flags: tuple[str, ...], level: str, style: str, tmp_path: Path
):
    inside("status", *flags, cwd=tmp_path)
    log = render.logging.getLogger("xbtmigrate")
    assert render.logging.getLevelName(log.level) == level
    assert render.progress()._style == {"auto": "plain"}.get(style, style)


def test_every_verb_has_a_step():
    assert {verb.step for verb in verbs.VERBS.values()} == set(STEPS)


def test_a_dry_run_prints_json_where_it_was_asked_for(tmp_path: Path):
    code, out, _ = inside("plan", "--dry-run", "--json", cwd=tmp_path)
    assert code == 0
    assert "writes files under .xbtmigrate/ only" in json.loads(out)["dry_run"]
