"""Parse `train-projector`: fit the maps between the two models' spaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.text import duration

if TYPE_CHECKING:
    from xbtmigrate.documents.train import CandidateDocument, CentringDocument
    from xbtmigrate.workflows.train.train import TrainResult


def train_projector(
    config: ConfigOption = CONFIG,
    pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Points to make pairs from; 0 for all.")
    ] = 10_000,
    direction: Annotated[
        Literal["both", "bridge", "forward"],
        typer.Option(help="bridge maps queries new -> old, forward the gallery old -> new."),
    ] = "both",
    kind: Annotated[
        str, typer.Option(help="Kinds to try, comma-separated; auto tries the closed forms.")
    ] = "auto",
    lora: Annotated[
        int,
        typer.Option(
            "--lora",
            min=0,
            help="Epochs of tuning the new text tower by LoRA for the bridge; 0 for none.",
        ),
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads for training.")] = 2,
    json: JsonOption = False,
) -> None:
    """Fit projectors from texts (and images) already in the collection. Reads only.

    Every kind is fitted and compared by held-out retrieval; the best one of each direction is
    kept under .xbtmigrate/, with the pairs it was made from.
    """
    from xbtmigrate.cli import many
    from xbtmigrate.config import load_config

    if many.is_for_many(config):
        _train_many(config, pairs or None, direction, kind.split(","), threads, lora, json=json)
        return
    settings = load_config(config)
    from xbtmigrate.workflows.train.train import train

    with render.progress() as bars:
        trained = train(
            settings,
            # 0 on the command line means all points.
            pairs=pairs or None,
            direction=direction,
            kinds=kind.split(","),
            threads=threads,
            lora=lora,
            report=bars,
        )
    if json:
        render.document(trained.document())
    else:
        _show(trained)


def _describe_centring(centred: CentringDocument) -> str:
    tried = f"on {centred['queries']:,} queries"
    if not any(centred["strengths"]):
        return f"Queries are not centred: it gained nothing {tried}"
    strengths = " ".join(f"{each:g}" for each in centred["strengths"])
    return f"Queries centred by {strengths} (0, 0.1 ... 1 re-encoded), fitted {tried}"


def _train_many(
    config: Path,
    pairs: int | None,
    direction: Literal["both", "bridge", "forward"],
    kinds: list[str],
    threads: int,
    lora: int,
    *,
    json: bool,
) -> None:
    """Fit once for all collections of a configuration."""
    from xbtmigrate.cli import many
    from xbtmigrate.config import load_config
    from xbtmigrate.errors import ConfigError, XbtMigrateError
    from xbtmigrate.workflows.many import list_collections
    from xbtmigrate.workflows.train.train_many import train_many

    if lora:
        raise ConfigError("--lora is for one collection", "leave out --lora")
    with render.progress() as bars:
        found = train_many(
            [load_config(config, name) for name in list_collections(config)],
            pairs=pairs,
            direction=direction,
            kinds=kinds,
            threads=threads,
            report=bars,
        )
    rows = [
        many.row_of_error(name, each)
        if isinstance(each, XbtMigrateError)
        else many.row(name, "done", document={**each.document()})
        for name, each in found.items()
    ]
    many.finish("train-projector", rows, as_json=json)


def _show(trained: TrainResult) -> None:
    content = trained.document()
    counts = ", ".join(f"{count:,} {source}" for source, count in content["pairs"].items())
    render.say(f"Pairs: {counts}; {content['held_out']:,} points held out.")
    names = ("held_out_recall@1", "held_out_recall@10", "held_out_mrr")
    columns = [name.removeprefix("held_out_") for name in names]
    for direction, result in content["directions"].items():
        rows: list[list[object]] = [
            [kind, "", *render.cells(scores, *names), ""]
            for kind, scores in result["baselines"].items()
        ]
        best: dict[str, CandidateDocument] = {}
        for found in result["candidates"]:
            # Candidates come best first, so the first one of a kind is its best.
            best.setdefault(found["kind"], found)
        for kind, found in best.items():
            figures = render.cells(found, *names)
            rows.append([kind, found["source"], *figures, duration(found["seconds"])])
        render.table(
            f"{direction}: held-out points of the training sample, best of each kind",
            ["kind", "pairs", *columns, "time"],
            rows,
        )
        render.say(f"Kept: {result['kind']} in {result['folder']}")
    if tuned := content["lora"]:
        render.say(
            f"LoRA on {tuned['pairs']:,} pairs: held-out recall@10 of the bridge "
            f"{tuned['off']['held_out_recall@10']:.3f} without, "
            f"{tuned['on']['held_out_recall@10']:.3f} with, in {tuned['folder']}"
        )
    if fitted := content["calibration"]:
        render.say(f"Calibrated on {fitted['queries']:,} queries; {fitted['basis']}")
    if centred := content["centring"]:
        render.say(f"{_describe_centring(centred)}; {centred['basis']}")
    render.say(
        "Held-out figures only compare maps: each held-out point searches for itself. To compare "
        "a map with keep, run `xbtmigrate evaluate`."
    )
    render.next_step(content)
