"""Parse `verify`: check that every point is as planned and everything else as it was."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import end, stop_on_interrupt


def verify(
    config: ConfigOption = CONFIG,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Look at about this many points; all without it.")
    ] = None,
    reencode: Annotated[
        int, typer.Option(min=0, help="Encode about this many of the encoded points again.")
    ] = 128,
    max_stale: Annotated[
        int, typer.Option(min=0, help="Points written since the backfill that are let pass.")
    ] = 0,
    hnsw_ef: Annotated[
        int | None, typer.Option(min=1, help="hnsw_ef your application searches with.")
    ] = None,
    accept_replaced_vectors: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Encoded points whose old vectors your application replaced, at most.",
        ),
    ] = 0,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes/--dry-run",
            help="Make the vectors that are wrong again; --dry-run, the default, reads only.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check every point, the settings and the index before a cutover. Reads only, but for --yes.

    Ctrl-C saves what was found; the same command goes on from there.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.verify.verify import Extent
    from xbtmigrate.workflows.verify.verify import verify as run

    extent = Extent(
        sample=sample,
        reencode=reencode,
        max_stale=max_stale,
        repair=yes,
        hnsw_ef=hnsw_ef,
        replaced=accept_replaced_vectors,
    )
    with render.progress() as bars, stop_on_interrupt() as asked_to_stop:
        verdict = run(settings, extent, should_stop=asked_to_stop, report=bars)
    if json:
        render.document(verdict.document)
    else:
        _show(verdict.document)
    end(passed=verdict.clean, interrupted=verdict.interrupted)


def _show(content: dict[str, Any]) -> None:
    from xbtmigrate.workflows.tally import in_words

    names = ("status", "phase", "checked", "points", "projected", "encoded")
    # A run that was stopped has a shorter document.
    pairs = [(name, content[name]) for name in names if name in content]
    if "without_vector" in content:
        pairs.append(("get no new vector", in_words(content["without_vector"])))
    pairs += [(name, count) for name, count in content.get("mismatches", {}).items() if count]
    recall = content.get("index_recall")
    if recall:
        pairs.append(("index recall, old and new", f"{recall['old']:.3f}, {recall['new']:.3f}"))
    render.facts(f"Verification of {content['collection']}", pairs)
    # Five are enough to see a pattern; `--json` has more.
    for example in content.get("examples", [])[:5]:
        render.say(f"Point {example['id']}: {example['fault']}, {example['detail']}")
    for line in content.get("settings", []):
        render.say(f"Setting: {line}")
    for title, key in (
        ("Not clean", "reasons"),
        ("Proven", "proven"),
        ("Not proven", "not_proven"),
    ):
        for line in content.get(key, []):
            render.say(f"{title}: {line}")
    render.say(f"Next: {content['next']}")
