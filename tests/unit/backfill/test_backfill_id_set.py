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
