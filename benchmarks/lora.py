"""Tune the new CLIP text tower towards stored old image vectors; run by hand.

python benchmarks/lora.py --source text --pairs 8000 --epochs 2

The bridge is fitted on the clip art beside the checkout: on its training captions alone, in both
models (`text`, the first stage of XBT), or on captions and stored image vectors (`caption_image`).
The figures are those of the val captions over all 11,973 images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from projectors import SPACE, clipart, matrix, shown

from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.training import FitOptions, ModelSpace, fit, measure_retrieval
from xbtmigrate.training.kinds.lora import LoraTask, TextTower, fit_lora
from xbtmigrate.types import Direction, Modality


def main() -> None:
    """Parse, fit the bridge, tune, measure, print."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Tune the new text tower by LoRA")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--kind", default="mlp")
    parser.add_argument("--source", choices=["text", "caption_image"], default="caption_image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    corpus = clipart(arguments.data, arguments.seed)
    pairs = [each for each in corpus.pairs if each.source == arguments.source]
    spaces = ModelSpace("old", SPACE), ModelSpace("new", SPACE)
    options = FitOptions(*spaces, [arguments.kind], arguments.seed, arguments.threads)
    bridge = fit(Direction.BRIDGE, pairs, corpus.validation, options, progress=print).projector
    items = pq.read_table(arguments.data / "clipart/pairs.parquet", columns=["caption", "split"])
    captions = np.array(items["caption"].to_pylist(), object)
    is_val = np.array(items["split"].to_pylist()) == "val"
    stored = matrix(pq.read_table(arguments.data / "clipart/embeddings.parquet"), "old_img")
    train = np.random.default_rng(arguments.seed).permutation(np.flatnonzero(~is_val))
    rows = train[: arguments.pairs]
    checkpoint = arguments.data / "models/clip-new"
    model = OpenClipEncoder(checkpoint=checkpoint, device="cpu", threads=arguments.threads)
    test, texts = corpus.test, captions[is_val].tolist()
    with TemporaryDirectory() as folder:
        task = LoraTask(captions[rows].tolist(), stored[rows], bridge)
        report = fit_lora(
            TextTower(*model.text_tower()), task, Path(folder),
            epochs=arguments.epochs, seed=arguments.seed, threads=arguments.threads,
        )  # fmt: skip
        print(
            f"{report.pairs} pairs, {report.seconds:.0f} s, CPU {time.process_time():.0f} s in all"
        )
        print("held out, off and on:", report.off.as_metrics(), report.on.as_metrics())
        tuned = OpenClipEncoder(checkpoint=checkpoint, lora=Path(folder), device="cpu")
        for name, encoder in {f"bridge:{bridge.kind}": model, "with LoRA": tuned}.items():
            queries = bridge.apply(encoder.encode(texts, Modality.TEXT))
            print(shown(name, measure_retrieval(queries, test.gallery_old, test.relevant, SPACE)))


if __name__ == "__main__":
    main()
