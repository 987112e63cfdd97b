"""Why a command stops: a signal, or the end of its time budget."""

import math
import signal

import pytest

from xbtmigrate.cli.process import stop_on_interrupt


@pytest.mark.parametrize(
    ("seconds", "reason"), [(0, "time budget used up"), (math.inf, ""), (3600, "")]
)
def test_the_end_of_the_budget_is_a_reason_to_stop(seconds, reason):
    with stop_on_interrupt(seconds) as why:
        assert why() == reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_the_second_ends_the_program(number):
    before = signal.getsignal(number)
    with stop_on_interrupt(0) as why:
        signal.raise_signal(number)
        # The user's own wish is the reason that is shown.
        assert why() == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
