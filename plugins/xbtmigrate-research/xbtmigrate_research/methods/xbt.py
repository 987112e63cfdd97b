"""XBT: a map of queries that learns from texts alone, then additions to the new model.

Jang & Lim, "Towards Cross-modal Backward-compatible Representation Learning for Vision-Language
Models", ICCV 2025, arXiv 2405.14715. Stage 1: phi, from the new to the old space, is trained on
texts that both text towers embed, with Gaussian noise around the vectors to bridge the gap between
texts and pictures; after it the old model is not needed. Stage 2: phi and low-rank additions to the
new model are trained on pairs of texts and pictures; the model's own weights stay.

Changed: sizes, losses and the noise are not public where we could read. phi is the tool's kind
`mlp` with noise 0 and 0.05, of which the one that retrieves better is taken (`xbt_texts`). Stage 2
is the tool's `--lora`: pairs of captions and stored vectors, a contrast between them, additions of
rank 8 to the text tower, and phi as it is (`xbt`). The image tower gets none, as no query is a
picture.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.training.kinds.lora import LoraTask, TextTower, fit_lora
from xbtmigrate.types import Direction, Modality
from xbtmigrate_research.method import Claim, Method, Needs, Outcome, Share, answer_in_old
from xbtmigrate_research.trial import Trial

EPOCHS = 2
SOURCE = "Jang & Lim, ICCV 2025, 2405.14715"


def run_texts(trial: Trial) -> Outcome:
    """Stage 1 alone."""
    phi = trial.fit(Direction.BRIDGE, ["mlp"], texts=True).projector
    noise = phi.manifest.hyperparameters["noise"]
    return answer_in_old(trial, phi.apply(trial.corpus.asked_new), f"noise {noise}")


def run(trial: Trial, epochs: int = EPOCHS) -> Outcome:
    """Both stages."""
    corpus, rows = trial.corpus, trial.rows
    assert corpus.folder is not None
    checkpoint = corpus.folder / "models" / "clip-new"
    phi = trial.fit(Direction.BRIDGE, ["mlp"], texts=True).projector
    base = OpenClipEncoder(checkpoint=checkpoint, device="cpu", threads=1)
    task = LoraTask([corpus.texts[row] for row in rows], corpus.old[rows], phi)
    with TemporaryDirectory() as name:
        folder = Path(name)
        fit_lora(
            TextTower(*base.text_tower()), task, folder,
            epochs=trial.cut(epochs), seed=trial.seed, threads=1,
        )  # fmt: skip
        tuned = OpenClipEncoder(checkpoint=checkpoint, lora=folder, device="cpu", threads=1)
        queries = tuned.encode(corpus.asked, Modality.TEXT)
    return answer_in_old(trial, phi.apply(queries))


METHODS = (
    Method(
        "xbt_texts", SOURCE, run_texts, Needs(old_model=True), "bridge, kind `mlp`",
        beside="procrustes",
    ),
    Method(
        "xbt", SOURCE, run, Needs(old_model=True, labels=True, encoder=True),
        "`train-projector --lora`", beside="xbt_texts", epochs=EPOCHS, corpora=("clipart",),
        claim=Claim(Share.GAP, "10 % (R@1, Flickr30k) and 18 % (COCO), L/14 to B/32"),
    ),
)  # fmt: skip
