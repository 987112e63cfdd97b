import numpy as np

from xbtmigrate.backfill.members import Members


def test_members_are_told_from_strangers():
    members = Members(str(number) for number in range(0, 1000, 3))
    asked = [str(number) for number in range(2000)]
    np.testing.assert_array_equal(
        members.among(asked), [n % 3 == 0 and n < 1000 for n in range(2000)]
    )
    assert members.among([]).shape == (0,)


def test_nobody_belongs_to_an_empty_set():
    assert not Members().among(["1", "2"]).any()
