"""Methods that run the towers of the new model, on a tiny one."""

import base64
import io
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from xbtmigrate_research.corpora import Corpus
from xbtmigrate_research.measure import measure_method
from xbtmigrate_research.trial import Trial

from tests.support.tiny_clip import write_tiny_clip
from xbtmigrate.types import Modality, normalized

pytestmark = pytest.mark.long
COLOURS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey"]
SHAPES = ["ball", "box", "cup", "hat", "key"]
COPIES = 8
"""Of each caption; fewer than the answers to a query that count."""


def picture(rng):
    """A PNG of random colours."""
    from PIL import Image

    content = io.BytesIO()
    colours = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((32, 32), Image.Resampling.BILINEAR).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures with captions; what is stored follows from the words of the caption.

    The old text tower says something else of them than the old image tower: the modality gap. The
    first two copies are asked for, so that every caption asked is among the pairs.
    """
    from xbtmigrate_research.pictures import new_model, read_pictures

    from xbtmigrate.encoders.open_clip import OpenClipEncoder

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    (folder / "models").mkdir()
    (folder / "clipart").mkdir()
    write_tiny_clip(folder / "models" / "clip-new")
    captions = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES] * COPIES
    rows = np.arange(len(captions))
    file = folder / "clipart" / "pairs.parquet"
    pq.write_table(pa.table({"png": [picture(rng) for _ in rows]}), file)
    model = OpenClipEncoder(checkpoint=folder / "models" / "clip-new", threads=1)
    texts = model.encode(captions, Modality.TEXT)
    vectors = {word: rng.standard_normal(8).astype(np.float32) for word in COLOURS + SHAPES}
    meant = np.stack(
        [vectors[colour] + vectors[shape] for _, colour, shape in map(str.split, captions)]
    )
    old = normalized(meant + 0.2 * rng.standard_normal(meant.shape).astype(np.float32))
    old_texts = normalized(meant + np.roll(meant, 3, axis=1))
    rel = rows[: 2 * len(COLOURS) * len(SHAPES)]
    empty = Corpus(captions, [captions[row] for row in rel], old, texts, old[rel], texts[rel], rel,
                   (old_texts, texts), pictures=True, folder=folder)  # fmt: skip
    trial = Trial(empty, 100)
    images = new_model(trial).encode(read_pictures(trial, rows), Modality.IMAGE)
    return replace(empty, new=images)


def figures(name, trial, **settings):
    from xbtmigrate_research.methods import load_methods

    method = load_methods()[name]
    run = partial(method.run, **settings)
    return measure_method("made", replace(method, run=run), trial).figures


def test_pictures_are_shrunk(pictures):
    from PIL import Image
    from xbtmigrate_research.pictures import read_pictures

    sizes = [
        Image.open(io.BytesIO(base64.b64decode(each))).size
        for size in (None, 6)
        for each in read_pictures(Trial(pictures, 100), np.array([3, 5]), size)
    ]
    assert sizes == [(32, 32)] * 2 + [(6, 6)] * 2


def test_pixels_are_read_as_towers_take_them(pictures):
    from xbtmigrate_research.pictures import read_pixels

    pixels = read_pixels(Trial(pictures, 100), np.array([3, 5]), 24)
    assert pixels.shape == (2, 3, 24, 24)
    assert 0 <= pixels.min() < 0.5 < pixels.max() <= 1


def test_views_of_a_picture_find_each_other():
    import torch
    from xbtmigrate_research.methods.fct_simclr import network, train_views, view
    from xbtmigrate_research.optimise import mapped

    torch.manual_seed(0)
    colours = torch.rand(300, 3, 3, 3)
    pixels = torch.nn.functional.interpolate(colours, size=(24, 24), mode="bilinear")
    first, second = (view(pixels[200:]).numpy() for _ in range(2))

    def found(made):
        near = mapped(made, first) @ mapped(made, second).T
        return (near.argmax(axis=1) == np.arange(len(near))).mean()

    assert found(train_views(pixels[:200], 0, epochs=10)) > found(network()) + 0.2


def test_additions_learn_what_texts_alone_cannot_tell(pictures):
    trial = Trial(pictures, 240)
    tuned = figures("xbt", trial, epochs=100)["recall@10"]
    assert tuned > figures("xbt_texts", trial)["recall@10"] + 0.1


def test_an_adapted_tower_takes_the_place_of_the_old_one(pictures):
    # Here what is stored follows from the picture, as it does with real towers.
    weight = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float32)
    spread = (pictures.new - pictures.new.mean(axis=0)) / pictures.new.std(axis=0)
    old = normalized(spread @ weight)
    corpus = replace(pictures, old=old, asked_old=old[pictures.rel], questions=(old, pictures.new))
    found = figures("taca", Trial(corpus, 240))
    # Chance finds one point in 48.
    assert found["recall@10"] > 0.5
    assert found["AUC random"] > 0.5
