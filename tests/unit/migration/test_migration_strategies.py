"""The table of strategies: every strategy has a row, and what follows from the rows."""

from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.rates import Rates

RATES = Rates(1, 1, 1, sweep=1, order=1, forward=1, fill=1, reencode=1)


def test_every_strategy_has_one_row_and_keep_comes_first():
    assert list(STRATEGIES) == list(Strategy)


def test_a_strategy_costs_time_exactly_where_it_writes():
    for strategy, spec in STRATEGIES.items():
        assert (RATES.seconds(strategy, 100, 10) > 0) == spec.writes


def test_only_a_strategy_that_encodes_has_a_share():
    for spec in STRATEGIES.values():
        assert (spec.fraction > 0) == spec.encodes
        assert (spec.fraction == 1) == spec.only_encodes
