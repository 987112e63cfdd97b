"""Parse `verify`: check that every point is as planned and everything else as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import end, stop_on_interrupt

if TYPE_CHECKING:
    from xbtmigrate.documents.verify import StoppedVerifyDocument, VerifyDocument

ReplacedOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Most encoded points whose old vectors your application may have replaced.",
    ),
]
RepairOption = Annotated[
    bool,
    typer.Option(
        "--yes/--dry-run",
        help="Correct wrong vectors; --dry-run, the default, reads only.",
    ),
]


def verify(
    config: ConfigOption = CONFIG,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Check about this many points; by default all.")
    ] = None,
    reencode: Annotated[
        int, typer.Option(min=0, help="Encode about this many encoded points again, to compare.")
    ] = 128,
    max_stale: Annotated[
        int, typer.Option(min=0, help="Most points that may have been written since the backfill.")
    ] = 0,
    hnsw_ef: Annotated[
        int | None, typer.Option(min=1, help="hnsw_ef that your application searches with.")
    ] = None,
    accept_replaced_vectors: ReplacedOption = 0,
    yes: RepairOption = False,
    json: JsonOption = False,
) -> None:
    """Check every point, the settings and the index. Reads only, except with --yes.

    Ctrl-C saves what was found; the same command continues from there.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.verify.verify import VerifyOptions
    from xbtmigrate.workflows.verify.verify import verify as run

    extent = VerifyOptions(
        sample=sample,
        reencode=reencode,
        max_stale=max_stale,
        repair=yes,
        hnsw_ef=hnsw_ef,
        replaced=accept_replaced_vectors,
    )
    with render.progress() as bars, stop_on_interrupt() as asked_to_stop:
        found = run(settings, extent, should_stop=asked_to_stop, report=bars)
    if json:
        render.document(found)
    else:
        _show(found)
    end(passed=found["clean"], interrupted="mismatches" not in found)


def _show(content: VerifyDocument | StoppedVerifyDocument) -> None:
    pairs = render.named(content, "status", "phase", "checked", "points")
    # A run that was stopped has a shorter document.
    if "mismatches" in content:
        pairs += _counts(content)
    render.facts(f"Verification of {content['collection']}", pairs)
    if "mismatches" in content:
        _show_details(content)
    render.next_step(content)


def _counts(content: VerifyDocument) -> list[tuple[str, object]]:
    from xbtmigrate.workflows.tally import describe_without_vector

    pairs = render.named(content, "projected", "encoded")
    pairs.append(("get no new vector", describe_without_vector(content["without_vector"])))
    pairs += [(name, count) for name, count in content["mismatches"].items() if count]
    if recall := content["index_recall"]:
        pairs.append(("index recall, old and new", f"{recall['old']:.3f}, {recall['new']:.3f}"))
    return pairs


def _show_details(content: VerifyDocument) -> None:
    # Five are enough to see a pattern; `--json` has more.
    for example in content["examples"][:5]:
        render.say(f"Point {example['id']}: {example['fault']}, {example['detail']}")
    for title, lines in (
        ("Setting", content["settings"]),
        ("Not clean", content["reasons"]),
        ("Proven", content["proven"]),
        ("Not proven", content["not_proven"]),
    ):
        for line in lines:
            render.say(f"{title}: {line}")
