"""On real text a fused gallery beats keeping the old model before anything is re-encoded."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.comparison import compare
from xbtmigrate.evaluation.curves import measure_curves
from xbtmigrate.evaluation.mixed_gallery import Keep, Single
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace
from xbtmigrate.scoring.conditional_logit import CalibrationSet, calibrate
from xbtmigrate.scoring.fusion import CalibratedServing, hubness
from xbtmigrate.types import Channel, normalized

POINTS, TEST, SPENT = 8000, 1000, 3000

pytestmark = pytest.mark.shared


def vectors_by_text(path, texts):
    table = pq.read_table(path)
    row = {text: number for number, text in enumerate(table["key"].to_pylist())}
    values = table["vector"].combine_chunks().values.to_numpy(zero_copy_only=False)
    return values.reshape(len(row), -1)[[row[text] for text in texts]].astype(np.float32)


def ridge(x, y, penalty=0.1):
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return lambda z: normalized(((z - mean_x) @ weights + mean_y).astype(np.float32))


@pytest.fixture(scope="module")
def channels(shared_dir):
    """Scores of queries i for documents i: test first, then the spent ones, then the rest."""
    folder = shared_dir / "data" / "text"
    packages = pq.read_table(folder / "debian-packages.parquet").slice(0, POINTS).to_pydict()
    order = np.random.default_rng(0).permutation(POINTS)
    files = [folder / f"{name}-by-text.parquet" for name in ("old-svd128", "new-minilm384")]
    documents = [packages["description"][row] for row in order]
    queries = [packages["synopsis"][row] for row in order[: TEST + SPENT]]
    (old, new), (old_query, new_query) = (
        [vectors_by_text(file, texts) for file in files] for texts in (documents, queries)
    )
    spent = np.arange(TEST, TEST + SPENT)
    projected = ridge(old[spent], new[spent])(old)
    for fold in range(3):
        unseen, seen = spent[fold::3], np.setdiff1d(spent, spent[fold::3])
        projected[unseen] = ridge(old[seen], new[seen])(old[unseen])
    return {
        Channel.OLD: SearchSpace(old_query, old),
        Channel.FORWARD: SearchSpace(new_query, projected),
        Channel.NEW: SearchSpace(new_query, new),
    }


@pytest.fixture(scope="module")
def fused(channels):
    """Calibrated on half of the spent documents' queries; the other half is the bank."""
    spent, bank = np.arange(TEST, TEST + SPENT), np.arange(TEST + SPENT // 2, TEST + SPENT)
    asked = np.arange(SPENT // 2)
    hubs = {
        channel: hubness(
            SearchSpace(space.gallery, space.query[bank]).score(),
            np.arange(POINTS)[:, None] == bank[None, :],
        )
        for channel, space in channels.items()
    }
    blocks = {
        channel: SearchSpace(space.query[spent[asked]], space.gallery[spent]).score()
        for channel, space in channels.items()
    }
    near = {channel: values[spent] for channel, values in hubs.items()}
    return CalibratedServing(calibrate(CalibrationSet(blocks, asked, asked, near)), hubs)


def test_the_fused_gallery_beats_keep_at_every_fraction(channels, fused):
    spaces = {c: SearchSpace(space.query[:TEST], space.gallery) for c, space in channels.items()}
    relevance = Relevance.from_rows([[row] for row in range(TEST)])
    keep, full = (evaluate(spaces[c], relevance) for c in (Channel.OLD, Channel.NEW))
    curves = measure_curves(
        spaces,
        relevance,
        orders={"random": np.random.default_rng(1).permutation(POINTS)},
        servings=[Keep(), Single(), fused],
        fractions=[0.0, 0.25, 0.5, 0.75, 1.0],
    )
    _, single, calibrated = curves
    start = compare(calibrated.points[0], keep, full, seed=0)
    assert start.beats_keep("recall@10", level=0.01)
    assert start.beats_keep("mrr@10", level=0.01)
    assert calibrated.no_regret(keep)
    assert not single.no_regret(keep)
    assert calibrated.auc() > single.auc() + 0.05
