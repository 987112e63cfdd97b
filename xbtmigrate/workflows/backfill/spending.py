"""Count the money that a run spends on embedding, and stop the run at a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xbtmigrate.errors import ConfigError
from xbtmigrate.protocols import Encoder

SPENT = "cost limit reached"
"""The reason to stop, as the document of a run names it."""


@dataclass(slots=True)
class Spending:
    """What an encoder has charged for since the run began.

    Attributes:
        encoder: The new model.
        limit: Money after which the run stops; None for no limit.
        elsewhere: Money that copies of the encoder have spent in other processes.

    Raises:
        ConfigError: There is a limit, but the encoder does not count what it costs.
    """

    encoder: Encoder
    limit: float | None = None
    elsewhere: float = 0.0

    def __post_init__(self) -> None:
        if self.limit is not None and self.cost is None:
            raise ConfigError(
                "--max-cost needs an encoder that counts its cost, and [new_model] has none",
                "set price_per_million_tokens in [new_model] before `xbtmigrate plan`, or leave "
                "out --max-cost",
            )

    @property
    def cost(self) -> float | None:
        """Money spent so far; None if the encoder does not count it."""
        # Optional beyond the protocol: local models cost nothing.
        cost = getattr(self.encoder, "cost", None)
        return None if cost is None else float(cost) + self.elsewhere

    def add(self, money: float) -> None:
        """Add what was spent in another process."""
        self.elsewhere += money

    def or_stop(self, should_stop: Callable[[], str]) -> Callable[[], str]:
        """Add the limit to the reasons to stop; it is read after each batch."""

        def why() -> str:
            spent = self.limit is not None and (self.cost or 0.0) >= self.limit
            return should_stop() or (SPENT if spent else "")

        return why
