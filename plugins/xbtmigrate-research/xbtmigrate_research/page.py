"""The page: what every method is and needs, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from textwrap import fill
from typing import TypeAlias

from xbtmigrate.evaluation.comparison import Significance, gap_closed
from xbtmigrate_research.corpora import CORPORA
from xbtmigrate_research.measure import FULL, KEEP, MAIN, Run
from xbtmigrate_research.method import OWN, VARIANCE, Claim, Method, Share
from xbtmigrate_research.verdicts import LEVEL, Found, compare_runs, judge_method

Methods: TypeAlias = Mapping[str, Method]

DETAILS = {
    "recall@1": "recall@1",
    "map@100": "map@100",
    "negative flips": "negative flips",
    "AUC random": "AUC, random order",
    f"AUC {OWN}": "own order",
    f"AUC {VARIANCE}": "by variance",
}
"""Metrics of the tables of one corpus, and their heads."""
ENDS = {KEEP: "old model on its own vectors", FULL: "new model on its own vectors"}


def show_page(runs: Sequence[Run], methods: Sequence[Method]) -> str:
    """Write every table; a method that was trained for several lengths counts with the longest."""
    found = _sorted(runs)
    parts = [_conditions(found), _overview(found, methods)]
    if found:
        parts += [_claims(found, methods), _criterion(found, methods)]
        parts += [_details(corpus, found, methods) for corpus in found]
    return "\n\n".join(part for part in parts if part)


def _sorted(runs: Sequence[Run]) -> Found:
    found: dict[str, dict[str, list[Run]]] = {}
    for corpus in CORPORA:
        for run in runs:
            if run.corpus == corpus:
                kept = found.setdefault(corpus, {}).setdefault(run.method, [])
                if kept and run.epochs > kept[0].epochs:
                    kept.clear()
                if not kept or run.epochs == kept[0].epochs:
                    kept.append(run)
    return found


def _conditions(found: Found) -> str:
    runs = [run for methods in found.values() for each in methods.values() for run in each]
    if not runs:
        return ""
    pairs = sorted({run.pairs for run in runs if run.pairs})
    where = sorted({run.measured for run in runs if run.measured})
    said = (
        f"Figures are recall@10 of test queries: the mean over seeds, with the lowest and the "
        f"highest of several; {' or '.join(f'{each:,}' for each in pairs)} pairs. Verdicts are "
        f"paired permutation tests over queries, each the mean over seeds, at p < {LEVEL:g}. "
        f"Measured {'; '.join(where)}; one thread, {sum(run.seconds for run in runs) / 60:.0f} "
        f"minutes of training in all."
    )
    return fill(said, width=100)


def _overview(found: Found, methods: Sequence[Method]) -> str:
    head = ["method", "source", "old model", "labels", "pairs", "trains the encoder"]
    rows = [
        [end, spelt, "", "", "", "", *(_cell(found, corpus, end) for corpus in CORPORA), "", "", ""]
        for end, spelt in ENDS.items()
    ]
    for method in methods:
        needs = method.needs
        marks = (needs.old_model, needs.labels, needs.pairs, needs.encoder)
        runs = [run for each in found.values() for run in each.get(method.name, [])]
        rows.append([
            method.name, method.source, *("yes" if each else "no" for each in marks),
            *(_cell(found, corpus, method.name, method) for corpus in CORPORA),
            f"{mean(run.seconds for run in runs):.0f}" if runs else "",
            method.served, judge_method(method, found),
        ])  # fmt: skip
    return _table([*head, *CORPORA, "seconds", "in the tool", "verdict"], rows)


def _claims(found: Found, methods: Sequence[Method]) -> str:
    """Set what papers report beside ours."""
    rows = [
        [each.name, each.claim.share, each.claim.text,
         *(_ours(each.claim, each.name, found, corpus) for corpus in CORPORA)]
        for each in methods if each.claim
    ]  # fmt: skip
    title = "### What papers report, and the same here, by recall@10\n\n"
    return title + _table(["method", "share", "the paper", *CORPORA], rows) if rows else ""


def _ours(claim: Claim, name: str, found: Found, corpus: str) -> str:
    methods = found.get(corpus, {})
    runs, ends = methods.get(name), [methods.get(end) for end in ENDS]
    if not runs or not all(ends):
        return ""
    keep, full = (end[0].figures[MAIN] for end in ends if end)
    if claim.share is Share.FULL:
        return f"{100 * mean(run.figures[MAIN] for run in runs) / full:.0f} %"
    metric: str = MAIN
    if claim.share is Share.BACKFILL:
        metric = next(m for m in (f"AUC {OWN}", "AUC random") if m in runs[0].figures)
    share = gap_closed(mean(run.figures[metric] for run in runs), keep, full)
    return "no gap" if share is None else f"{100 * share:.0f} %"


def _criterion(found: Found, methods: Sequence[Method]) -> str:
    """Show the criterion of compatible training: new/old above old/old, and new/new beside it."""
    trained = [
        each for each in methods if each.compatible and any(each.name in found[c] for c in found)
    ]
    rows = [[KEEP, *(f"{_cell(found, c, KEEP)} | | " for c in CORPORA)]]
    rows += [[FULL, *(f" | {_cell(found, c, FULL)} | " for c in CORPORA)]]
    for each in trained:
        cells = [each.name]
        for corpus in CORPORA:
            runs = found.get(corpus, {}).get(each.name, [])
            own = _spread([run.figures.get(f"own {MAIN}") for run in runs])
            holds = _holds(runs, found.get(corpus, {}).get(KEEP, []))
            cells.append(f"{_cell(found, corpus, each.name, each)} | {own} | {holds}")
        rows.append(cells)
    heads = [f"{c}: new/old | new/new | holds" for c in CORPORA]
    title = (
        "### The criterion of compatible training\n\n"
        "It holds where new queries find more in the stored vectors than old queries do; `barely`\n"
        "where only the mean is above.\n\n"
    )
    return title + _table(["method", *heads], rows) if trained else ""


def _holds(runs: Sequence[Run], keep: Sequence[Run]) -> str:
    standing = compare_runs(runs, keep)
    if standing is None:
        return ""
    if standing is Significance.BETTER:
        return "yes"
    above = mean(run.figures[MAIN] for run in runs) > keep[0].figures[MAIN]
    return "barely" if above else "no"


def _details(corpus: str, found: Found, methods: Sequence[Method]) -> str:
    rows = []
    for name in [*ENDS, *(each.name for each in methods)]:
        runs = found[corpus].get(name, [])
        if runs:
            cells = [_spread([run.figures.get(metric) for run in runs]) for metric in DETAILS]
            rows.append([name, *cells, _steps(runs)])
    return f"### {corpus}\n\n" + _table(
        ["method", *DETAILS.values(), "map@100 after each update"], rows
    )


def _steps(runs: Sequence[Run]) -> str:
    steps = [metric for metric in runs[0].figures if metric.startswith("step ")]
    shown = (
        f"{each.removeprefix('step ')} {mean(run.figures[each] for run in runs):.3f}"
        for each in steps
    )
    return ", ".join(shown)


def _cell(found: Found, corpus: str, name: str, method: Method | None = None) -> str:
    if method and corpus not in method.corpora:
        return "no such data"
    runs = found.get(corpus, {}).get(name)
    return _spread([run.figures[MAIN] for run in runs]) if runs else "not run"


def _spread(given: Iterable[float | None]) -> str:
    """Write the mean over seeds, with the lowest and the highest of several."""
    values = [each for each in given if each is not None]
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{mean(values):.3f}" + (f" ({low:.3f} to {high:.3f})" if len(values) > 1 else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [head, *rows]
    shown = [f"| {' | '.join(cells)} |" for cells in lines]
    bar: Callable[[str], str] = lambda line: "|" + "---|" * (line.count("|") - 1)  # noqa: E731
    return "\n".join([shown[0], bar(shown[0]), *shown[1:]])
