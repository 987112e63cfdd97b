"""The encoder contract, on the fake and on the built-in encoders."""

from __future__ import annotations

import pytest

from tests.support.corpus import write_vectors
from tests.support.tiny_clip import data_uri, write_tiny_clip
from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.testing.encoders import EncoderContract, FakeEncoder
from xbtmigrate.types import Modality

TEXTS = ["a red fox", "a blue bird", "the sea"]
IMAGES = ["a.png", "b.png", "c.png"]


class TestFakeEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return FakeEncoder(failing={"broken"})

    @pytest.fixture
    def twin(self):
        return FakeEncoder(failing={"broken"})

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS, Modality.IMAGE: IMAGES}

    @pytest.fixture
    def unreadable(self):
        return {Modality.TEXT: "broken", Modality.IMAGE: "broken"}


class TestFakeTextEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return FakeEncoder(dimension=5, seed=1, modalities={Modality.TEXT})

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors.parquet"
    keys = [*TEXTS, *IMAGES]
    vectors = FakeEncoder(dimension=6).encode(keys, Modality.TEXT)
    write_vectors(path, keys, vectors)
    return path


class TestPrecomputedEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, path):
        return PrecomputedEncoder(path=path)

    @pytest.fixture
    def twin(self, path):
        return PrecomputedEncoder(path=path)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS, Modality.IMAGE: IMAGES}

    @pytest.fixture
    def unreadable(self):
        return {Modality.TEXT: "not there", Modality.IMAGE: "d.png"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_tiny_clip(tmp_path_factory.mktemp("tiny-clip"))
    sizes = [2, 64]
    return [
        OpenClipEncoder(checkpoint=folder, device="cpu", threads=2, batch_size=size)
        for size in sizes
    ]


@pytest.mark.long
class TestOpenClipEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, clips):
        return clips[0]

    @pytest.fixture
    def twin(self, clips):
        return clips[1]

    @pytest.fixture
    def items(self):
        colours = ["red", "green", "blue"]
        return {Modality.TEXT: TEXTS, Modality.IMAGE: [data_uri(colour) for colour in colours]}

    @pytest.fixture
    def unreadable(self):
        return {Modality.IMAGE: "data:image/png;base64,AAAA"}
