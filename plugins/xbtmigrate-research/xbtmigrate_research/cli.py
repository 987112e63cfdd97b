"""`xbtmigrate-research table`: train and measure the methods, and print the page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.errors import ConfigError, XbtMigrateError
from xbtmigrate_research.corpora import CORPORA, read_corpus
from xbtmigrate_research.measure import Run, measure_all, read_runs
from xbtmigrate_research.method import Method
from xbtmigrate_research.methods import load_methods
from xbtmigrate_research.page import show_page
from xbtmigrate_research.trial import Trial

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Methods of the literature, trained and measured on the same pairs and queries."""


@app.command()
def table(
    *,
    corpus: Annotated[
        list[str] | None, typer.Option(help=f"Corpus, repeatable: {', '.join(CORPORA)}.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Names, separated by commas; all by default.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    pairs: Annotated[int, typer.Option(min=100, help="Points embedded by the new model.")] = 4000,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Train no longer than this; shortened rows are marked."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the corpora.")] = Path("../shared/data"),
    results: Annotated[
        Path, typer.Option(help="Measured runs, a line each; those in it are not repeated.")
    ] = Path("papers.jsonl"),
) -> None:
    """Train the methods on one or more corpora, measure them and print the page.

    Without --corpus only the page of what the results hold is printed.

    Example: xbtmigrate-research table --corpus clipart --methods fct,fastfill --seeds 1
    """
    known = load_methods()
    chosen = _chosen(methods, known)
    for name in corpus or ():
        if name not in CORPORA:
            raise ConfigError(f"there is no corpus {name}", f"take one of {', '.join(CORPORA)}")
        read = read_corpus(name, data)
        trials = [Trial(read, pairs, seed, epochs) for seed in range(seeds)]
        for run in measure_all(name, trials, chosen, results):
            typer.echo(_line(run), err=True)
    runs = [run for run in read_runs(results) if run.pairs in (0, pairs)]
    typer.echo(show_page(runs, chosen))


def main() -> None:
    """Run the command line; errors end in their message, hint and exit code."""
    try:
        app()
    except XbtMigrateError as error:
        typer.echo(f"error: {error}\nhint: {error.hint}", err=True)
        sys.exit(error.exit_code)


def _chosen(methods: str, known: dict[str, Method]) -> list[Method]:
    if not methods:
        return list(known.values())
    names = methods.split(",")
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(
            f"there is no method {', '.join(missing)}", f"take some of {', '.join(known)}"
        )
    return [known[name] for name in names]


def _line(run: Run) -> str:
    figures = ", ".join(f"{name} {value:.3f}" for name, value in run.figures.items())
    return f"{run.corpus} {run.method} seed {run.seed}: {figures}; {run.seconds:.0f} s {run.note}"
