"""Testing: public fakes and contract suites for plugin authors."""

import pytest

pytest.register_assert_rewrite(
    "xbtmigrate.testing.encoders",
    "xbtmigrate.testing.galleries",
    "xbtmigrate.testing.journals",
    "xbtmigrate.testing.orderings",
    "xbtmigrate.testing.projectors",
)
