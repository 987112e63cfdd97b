import os
import pickle
import subprocess
import sys
import uuid

import numpy as np

from xbtmigrate.backfill.id_set import IdSet


def test_ids_in_the_set_are_told_from_others():
    ids = IdSet(str(number) for number in range(0, 1000, 3))
    asked = [str(number) for number in range(2000)]
    np.testing.assert_array_equal(
        ids.contains(asked), [n % 3 == 0 and n < 1000 for n in range(2000)]
    )
    assert ids.contains([]).shape == (0,)


def test_an_empty_set_contains_nothing():
    assert not IdSet().contains(["1", "2"]).any()


def test_a_set_can_be_sent_to_a_process_that_salts_its_hashes_otherwise():
    ids = ["7", "18446744073709551615", str(uuid.UUID(int=5 << 70)), str(uuid.uuid4())]
    code = (
        "import pickle, sys; ids, kept = pickle.load(sys.stdin.buffer);"
        "print(kept.contains(ids).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(([*ids, "8"], IdSet(ids))),
        env=os.environ | {"PYTHONHASHSEED": "3"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == str([True] * 4 + [False])
