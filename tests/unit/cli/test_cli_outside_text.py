"""Texts of others, where they are printed and where they are written into a configuration."""

from __future__ import annotations

import tomllib
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbtmigrate.cli import render
from xbtmigrate.cli.progress import ProgressDisplay
from xbtmigrate.cli.text import plain
from xbtmigrate.errors import ConfigError
from xbtmigrate.workflows.plan import find_fields
from xbtmigrate.workflows.plan.write_config import _listed, _value

HOSTILE = "1.0\x1b[2J\x1b]0;title\x07\r\nerror: all is lost\x9b31m\u202eevil\u2066\x00\ud800\u2028b"


def is_harmless(shown: str) -> bool:
    directions = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067")
    return not directions & set(shown) and all(
        each == "\n" or unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") for each in shown
    )


def test_an_error_cannot_steer_the_terminal(capsys):
    render.error(ConfigError(f"left by {HOSTILE}", f"go {HOSTILE}"), as_json=True)
    said = capsys.readouterr()
    assert is_harmless(said.err)
    assert len(said.err.splitlines()) == 2
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "hint"]
    assert said.out.isascii()
    assert "\x1b" not in said.out


def test_nothing_that_is_printed_can(capsys):
    render.say(HOSTILE)
    render.note(HOSTILE)
    render.table(HOSTILE, ["name", "value"], [[HOSTILE, 1]])
    render.facts(HOSTILE, [(HOSTILE, HOSTILE)])
    with ProgressDisplay("plain") as shown:
        shown(HOSTILE, 0, 0)
        shown(HOSTILE, 1, 2, HOSTILE)
        shown.write(HOSTILE)
    said = capsys.readouterr()
    assert is_harmless(said.out)
    assert is_harmless(said.err)
    assert "\n" + "error" not in said.out + said.err


def test_nor_can_the_log_or_a_warning(capsys):
    # Without the lone surrogate: pytest passes both between its processes as UTF-8.
    kept = HOSTILE.encode("utf-8", "ignore").decode()
    render.show_log()
    render.logging.getLogger("xbtmigrate.qdrant").warning("left by %s", kept)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Off first: an earlier test may have left it on for a context that is gone.
        render.logging.captureWarnings(capture=False)
        render.logging.captureWarnings(capture=True)
        warnings.warn(kept, stacklevel=1)
    said = capsys.readouterr().err
    render.logging.captureWarnings(capture=False)
    assert said.count("evil") == 2
    assert is_harmless(said)


def test_a_title_is_text_and_no_markup(capsys):
    render.facts("Migration [red]a[/red]", [("[b]x[/b]", "[i]y[/i]")])
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("[red]a[/red]", "[b]x[/b]", "[i]y[/i]"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, caf\u00e9, \u5b57", "plain text, caf\u00e9, \u5b57"),
        ("two\n  indented\nnot", "two\n  indented not"),
        ("a\u200db \u200c", "a\u200db \u200c"),
        ("is \u05d0\u05d1 12 \u05d2, not x", "is \u2068\u05d0\u05d1 12 \u05d2\u2069, not x"),
    ],
)
def test_what_is_harmless_stays_readable(text, shown):
    assert plain(text) == shown


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXT, st.lists(TEXT, max_size=3))
def test_no_key_of_a_payload_adds_a_setting(key, others):
    line = f"{_value('text', key, 'x')}  # found: {_listed([key, *others])}\nlast = 1"
    assert tomllib.loads(line) == {"text": key, "last": 1}
    assert all(each == "\n" or each.isprintable() for each in line)


def test_only_keys_that_a_path_can_name_are_offered():
    deep: dict[str, object] = {"text": "a b c"}
    for _ in range(5_000):
        deep = {"deep": deep}
    payload = {"a.b": "x y", "{a}": "x y", " a": "x y", "": "x y", "ok": "x y", "in": {"k": "x"}}
    found = find_fields.find_fields([payload | {"deep": deep}], None)
    # Odd keys are quoted; an empty one, and what lies too deep, has no path.
    quoted = {'"a.b"': "x y", '"{a}"': "x y", '" a"': "x y"}
    assert found.texts == quoted | {"ok": "x y", "in.k": "x"}
    assert not found.images
    assert find_fields.DEEPEST < 100
