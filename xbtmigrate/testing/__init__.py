"""Testing: public fakes and contract suites for plugin authors; outside the chain of rooms."""

import pytest

pytest.register_assert_rewrite(
    "xbtmigrate.testing.encoders",
    "xbtmigrate.testing.galleries",
    "xbtmigrate.testing.journals",
)
pytest.register_assert_rewrite("xbtmigrate.testing.orderings")
