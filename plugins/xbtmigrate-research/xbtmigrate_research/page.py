"""The page: what every method is and needs, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TypeAlias

from xbtmigrate.evaluation.comparison import gap_closed
from xbtmigrate_research.measure import FULL, KEEP, Run
from xbtmigrate_research.method import Method

Methods: TypeAlias = Mapping[str, Method]
ByMethod: TypeAlias = Mapping[str, Sequence[Run]]

MAIN = "recall@10"


def list_methods(methods: Sequence[Method]) -> str:
    """Write the table of what methods need."""
    head = "| method | source | old model | labels | pairs | trains the encoder | in the tool |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_described, methods)])


def show_runs(runs: Sequence[Run], methods: Methods) -> str:
    """Write a table for each corpus; figures are means over seeds, with the lowest and highest."""
    corpora = dict.fromkeys(run.corpus for run in runs)
    return "\n\n".join(
        _table(name, [run for run in runs if run.corpus == name], methods) for name in corpora
    )


def _described(method: Method) -> str:
    needs = method.needs
    marks = ("yes" if each else "no" for each in (needs.old_model, needs.labels, needs.pairs))
    trains = "yes" if needs.encoder else "no"
    return f"| {method.name} | {method.source} | {' | '.join(marks)} | {trains} | {method.served} |"


def _table(corpus: str, runs: Sequence[Run], methods: Methods) -> str:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.method, []).append(run)
    pairs = sorted({run.pairs for run in runs if run.pairs})
    head = (
        f"### {corpus}\n\n{', '.join(f'{each:,}' for each in pairs)} pairs, "
        f"{max(len({run.seed for run in each}) for each in found.values())} seeds, one thread. "
        f"{'; '.join(dict.fromkeys(run.measured for run in runs if run.measured))}\n\n"
        "| method | recall@1 | recall@10 | its own new/new | AUC random, ordered | "
        "negative flips | seconds | verdict |\n|---|---|---|---|---|---|---|---|"
    )
    rows = [_measured(name, each, found, methods) for name, each in found.items()]
    return "\n".join([head, *rows])


def _measured(
    name: str,
    runs: Sequence[Run],
    found: ByMethod,
    methods: Methods,
) -> str:
    curves = [_range(runs, f"AUC {order}") for order in ("random", "own")]
    cells = [
        name,
        _range(runs, "recall@1"),
        _range(runs, MAIN),
        _range(runs, f"own {MAIN}"),
        ", ".join(each for each in curves if each),
        _range(runs, "negative flips"),
        f"{mean(run.seconds for run in runs):.0f}" if runs[0].pairs else "",
        "" if name in (KEEP, FULL) else _verdict(name, runs, found, methods),
    ]
    return f"| {' | '.join(cells)} |"


def _range(runs: Sequence[Run], metric: str) -> str:
    """Write the mean over seeds, with the lowest and the highest of several."""
    values = [run.figures[metric] for run in runs if metric in run.figures]
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{mean(values):.3f}" + (f" ({low:.3f} to {high:.3f})" if len(values) > 1 else "")


def _verdict(
    name: str,
    runs: Sequence[Run],
    found: ByMethod,
    methods: Methods,
) -> str:
    """Say in a sentence how a method compares with the old model and with what it is built on."""
    method, parts = methods.get(name), []
    if method is None or method.compares_with_old:
        parts.append(_against("the old model", runs, found.get(KEEP, [])))
    if method and method.beside:
        parts.append(_against(method.beside, runs, found.get(method.beside, [])))
    said = ", ".join(part for part in parts if part)
    verdict = said[:1].upper() + said[1:] + "." if said else ""
    ends = [found[end][0].figures[MAIN] for end in (KEEP, FULL) if end in found]
    if method and method.published and len(ends) == 2:
        gap = gap_closed(mean(run.figures[MAIN] for run in runs), *ends)
        ours = "there is none here" if gap is None else f"{100 * gap:.0f} % here"
        verdict += f" Gap closed: {method.published}, {ours}."
    if runs[0].epochs < runs[0].published:
        verdict += f" Shortened: {runs[0].epochs} of {runs[0].published} epochs."
    steps = [metric for metric in runs[0].figures if metric.startswith("step ")]
    if steps:
        shown = ", ".join(f"{each.removeprefix('step ')} {_range(runs, each)}" for each in steps)
        verdict += f" map@100 over the updates: {shown}."
    return verdict.strip()


def _against(other: str, runs: Sequence[Run], theirs: Sequence[Run]) -> str:
    """Compare seed by seed; a single figure stands for every seed."""
    if not theirs:
        return ""
    of_seed = {run.seed: run.figures[MAIN] for run in theirs}
    default = next(iter(of_seed.values())) if len(of_seed) == 1 else None
    gains = [
        run.figures[MAIN] - base
        for run in runs
        if (base := of_seed.get(run.seed, default)) is not None
    ]
    if not gains:
        return ""
    if min(gains) > 0:
        return f"above {other} by {mean(gains):.3f}"
    if max(gains) < 0:
        return f"below {other} by {-mean(gains):.3f}"
    return f"no different from {other}"
