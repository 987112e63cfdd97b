"""The table: what is measured, kept and printed."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from xbtmigrate_research.measure import Run, measure_all, measure_method, read_runs
from xbtmigrate_research.method import Claim, Method, Needs, Share, answer_in_new, answer_in_old
from xbtmigrate_research.page import show_page
from xbtmigrate_research.trial import Trial
from xbtmigrate_research.verdicts import compare_runs

from tests.support.documents import ROOT
from tests.support.made_corpus import made_corpus
from xbtmigrate.evaluation.comparison import Significance
from xbtmigrate.types import vector_array

PERFECT = Method(
    "perfect", "nobody",
    lambda trial: answer_in_new(trial, trial.corpus.new, -trial.corpus.new[:, 0]),
    Needs(), "no", beside="keeping",
)  # fmt: skip
KEEPING = Method(
    "keeping", "nobody", lambda trial: answer_in_old(trial, trial.corpus.asked_old), Needs(), "no",
    epochs=80,
)  # fmt: skip


def test_pairs_are_those_of_no_query_and_the_same_for_every_method():
    corpus = made_corpus()
    trial = Trial(corpus, 300, seed=1)
    assert len(trial.rows) == 300
    assert not np.isin(trial.rows, corpus.rel).any()
    np.testing.assert_array_equal(trial.rows, Trial(corpus, 300, seed=1).rows)
    assert (trial.rows != Trial(corpus, 300, seed=2).rows).any()


def test_figures_are_of_queries_that_nothing_was_tuned_by():
    corpus = made_corpus()
    trial = Trial(corpus, 300)
    # Wrong answers to the queries that are tuned by change no figure.
    spoilt = corpus.asked_old.copy()
    spoilt[0::2] *= -1
    lying = Method("lying", "nobody", lambda each: answer_in_old(each, spoilt), Needs(), "no")
    assert measure_method("x", lying, trial).figures == measure_method("x", KEEPING, trial).figures


def test_what_is_measured_is_kept_and_not_measured_again(tmp_path):
    results = tmp_path / "papers.jsonl"
    trials = [Trial(made_corpus(), 300, seed, epochs=40) for seed in range(2)]
    done = list(measure_all("clipart", trials, [PERFECT, KEEPING], results))
    assert [(run.method, run.seed) for run in done] == [
        ("keep", 0), ("full", 0), ("perfect", 0), ("keeping", 0), ("perfect", 1), ("keeping", 1),
    ]  # fmt: skip
    assert read_runs(results) == done
    assert list(measure_all("clipart", trials, [PERFECT, KEEPING], results)) == []
    keep, full, perfect, keeping = done[:4]
    assert perfect.figures["recall@10"] == full.figures["recall@10"] > keep.figures["recall@10"]
    assert perfect.figures["AUC own"] == pytest.approx(full.figures["recall@10"])
    assert (keeping.epochs, keeping.published, keeping.figures["negative flips"]) == (40, 80, 0)


def run_of(method: str, seed: int, answered: range, **changes: object) -> Run:
    """A run that answers some of 80 queries."""
    hits = np.isin(np.arange(80), answered)
    figures = {"recall@1": len(answered) / 160, "recall@10": len(answered) / 80}
    packed = {"": np.packbits(hits).tobytes().hex()}
    given = {"corpus": "clipart", "pairs": 9, "epochs": 0, "published": 0, "seconds": 1.0}
    return Run(method=method, seed=seed, figures=figures, hits=packed, **given | changes)


ENDS = [run_of("keep", 0, range(40), pairs=0), run_of("full", 0, range(80), pairs=0)]


def rows_of(runs, methods):
    """The first row of the page for each method."""
    page = show_page(runs, methods)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    return page, {line.split(" | ")[0][2:]: line for line in reversed(rows)}


def test_the_page_says_who_is_above_whom_and_what_was_shortened():
    runs = [*ENDS]
    for seed in (0, 1):
        answered = range(38 + 4 * seed)
        runs.append(run_of("keeping", seed, answered, epochs=40, published=80))
        runs.append(run_of("perfect", seed, range(60 + 8 * seed)))
    page, rows = rows_of(runs, [KEEPING, PERFECT])
    assert rows["keep"].startswith("| keep | old model on its own vectors |")
    assert rows["perfect"].endswith("| Above the old model on clipart; above keeping on clipart. |")
    assert rows["keeping"].endswith(
        "| No different from the old model on clipart. Shortened: 40 of 80 epochs. |"
    )
    assert "| 0.800 (0.750 to 0.850) | not run | not run |" in rows["perfect"]
    assert "9 pairs" in page


def test_a_verdict_is_by_query_and_not_by_the_mean():
    # Ten queries more, each of them certain; or as many gained as lost.
    certain, exchanged = run_of("a", 0, range(50)), run_of("b", 0, range(8, 50))
    assert compare_runs([certain], [ENDS[0]]) is Significance.BETTER
    assert compare_runs([exchanged], [ENDS[0]]) is Significance.SAME
    assert compare_runs([run_of("c", 1, range(20))], [certain]) is None
    assert compare_runs([run_of("c", 0, range(20))], [certain]) is Significance.WORSE


def test_the_longest_training_counts():
    runs = [*ENDS, run_of("keeping", 0, range(20), epochs=40, published=80)]
    runs.append(run_of("keeping", 0, range(40), epochs=80, published=80))
    assert "| 0.500 | not run" in rows_of(runs, [KEEPING])[1]["keeping"]
    assert "Shortened" not in rows_of(runs, [KEEPING])[1]["keeping"]


def test_the_page_compares_with_the_paper_where_it_can():
    runs = [*ENDS, run_of("perfect", 0, range(70))]
    runs[-1].figures["AUC random"] = 0.6
    for share, ours in ((Share.GAP, "75 %"), (Share.BACKFILL, "20 %"), (Share.FULL, "88 %")):
        method = replace(PERFECT, claim=Claim(share, "70 % (ImageNet)"))
        page = show_page(runs, [method])
        assert f"| perfect | {share} | 70 % (ImageNet) | {ours} |  |  |" in page


def test_the_page_shows_the_criterion_of_compatible_training():
    runs = [*ENDS, run_of("perfect", 0, range(60))]
    runs[-1].figures["own recall@10"] = 0.9
    page = show_page(runs, [replace(PERFECT, compatible=True)])
    assert "| perfect | 0.750 | 0.900 | yes |" in page
    runs[-1] = run_of("perfect", 0, range(41))
    assert "| 0.512 |  | barely |" in show_page(runs, [replace(PERFECT, compatible=True)])
    assert "criterion" not in show_page(runs, [PERFECT])


@pytest.fixture
def pictures(tmp_path):
    """The made-up corpus, in the files that pictures are read from."""
    corpus = made_corpus()
    folder = tmp_path / "clipart"
    folder.mkdir()
    rows = len(corpus.old)
    split = np.where(np.isin(np.arange(rows), corpus.rel), "val", "train").tolist()
    ids = list(range(rows))
    pq.write_table(
        pa.table({"id": ids, "caption": corpus.texts, "split": split}), folder / "pairs.parquet"
    )
    vectors = {
        "old_img": corpus.old, "new_img": corpus.new,
        "old_txt": corpus.questions[0], "new_txt": corpus.questions[1],
    }  # fmt: skip
    columns = {name: vector_array(each) for name, each in vectors.items()}
    pq.write_table(pa.table({"id": ids} | columns), folder / "embeddings.parquet")
    return tmp_path


@pytest.mark.long
def test_the_command_trains_measures_and_prints_the_page(pictures, capsys, monkeypatch):
    from xbtmigrate_research.cli import main

    results = pictures / "papers.jsonl"
    arguments = ["--corpus", "clipart", "--methods", "procrustes,ridge,slerp", "--seeds", "2"]
    paths = ["--data", str(pictures), "--results", str(results), "--pairs", "300"]
    monkeypatch.setattr("sys.argv", ["xbtmigrate-research", "table", *arguments, *paths])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    page = capsys.readouterr().out
    measured = [json.loads(line)["method"] for line in results.read_text().splitlines()]
    assert measured == ["keep", "full", *["procrustes", "ridge", "slerp"] * 2]
    # Among the methods, and among the details of the corpus.
    assert page.count("\n| ridge |") == 2
    assert "300 pairs" in page


@pytest.mark.long
def test_unknown_names_are_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    from xbtmigrate_research.cli import main

    for option, value in (("--methods", "nothing"), ("--corpus", "nothing")):
        given = ["xbtmigrate-research", "table", option, value, "--data", str(tmp_path)]
        monkeypatch.setattr("sys.argv", given)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "there is no" in capsys.readouterr().err


@pytest.mark.long
def test_the_documentation_is_what_the_command_prints():
    from xbtmigrate_research.methods import load_methods

    page = (ROOT / "docs" / "papers.md").read_text("utf-8")
    kept = ROOT / "plugins" / "xbtmigrate-research" / "papers.jsonl"
    assert show_page(read_runs(kept), list(load_methods().values())) in page
