"""A projector's directory: written whole, believed only after it was checked."""

import json
import subprocess
import sys

import numpy as np
import pytest

from xbtmigrate import Projector
from xbtmigrate.errors import ArtefactError
from xbtmigrate.projectors import Affine, HeteroscedasticHead, Manifest, Mlp
from xbtmigrate.types import Direction, Distance

JSON, TENSORS = "projector.json", "projector.safetensors"


def make(value=1.0):
    facts = Manifest(Direction.BRIDGE, "ridge", 3, 2, Distance.DOT, Distance.DOT, seed=7)
    weight = np.full((3, 2), value, np.float32)
    return Projector(facts, Affine(weight, np.zeros(2, np.float32)))


@pytest.fixture
def saved(tmp_path):
    make().save(tmp_path / "p")
    return tmp_path / "p"


def edit(saved, **changes):
    path = saved / JSON
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_json_says_what_the_projector_is(saved):
    document = json.loads((saved / JSON).read_text())
    assert document["schema_version"] == 3
    assert document["architecture"] == "affine"
    assert (document["kind"], document["direction"], document["seed"]) == ("ridge", "bridge", 7)
    assert document["normalizes_output"] is False


def test_saving_again_replaces_the_earlier_and_leaves_nothing_beside(saved):
    make(2.0).save(saved)
    assert Projector.load(saved).apply(np.ones((1, 3), np.float32)).tolist() == [[6.0, 6.0]]
    assert [path.name for path in saved.parent.iterdir()] == ["p"]


def test_never_deletes_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtefactError, match="something other"):
        make().save(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("name", [JSON, TENSORS])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(ArtefactError, match=name) as caught:
        Projector.load(saved)
    assert "train-projector" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 3}'])
def test_damaged_json(saved, text):
    (saved / JSON).write_text(text)
    with pytest.raises(ArtefactError):
        Projector.load(saved)


def test_one_flipped_byte_of_the_tensors_is_noticed(saved):
    data = bytearray((saved / TENSORS).read_bytes())
    data[-1] ^= 1
    (saved / TENSORS).write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="digest"):
        Projector.load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"architecture": "transformer"}, "'transformer'"),
        ({"uncertainty": "oracle"}, "'oracle'"),
        ({"d_in": 4}, "3 -> 2"),
        ({"architecture": "mlp"}, "do not fit"),
        ({"uncertainty": "neighbours"}, "do not fit"),
        ({"direction": "sideways"}, "damaged"),
    ],
)
def test_what_does_not_fit_is_refused(saved, changes, message):
    edit(saved, **changes)
    with pytest.raises(ArtefactError, match=message) as caught:
        Projector.load(saved)
    assert caught.value.hint


def test_values_that_are_not_finite_are_refused(tmp_path):
    make(np.nan).save(tmp_path / "p")
    with pytest.raises(ArtefactError, match="not finite"):
        Projector.load(tmp_path / "p")


def test_an_uncertainty_of_another_dimension_is_refused():
    def zeros(*shape):
        return np.zeros(shape, np.float32)

    head = HeteroscedasticHead(Mlp(zeros(4, 1), (zeros(4, 2), zeros(2, 1)), (zeros(2), zeros(1))))
    with pytest.raises(ArtefactError, match="takes 4 dimensions"):
        Projector(make().manifest, make().architecture, head)


def test_the_digest_tells_maps_apart():
    assert make().digest == make().digest
    assert make().digest != make(2.0).digest


def test_loads_and_applies_without_torch(saved):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from xbtmigrate import Projector\n"
        f"print(Projector.load({str(saved)!r}).apply(np.ones((1, 3), np.float32)).sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6.0"
