"""Parse and check quality gates such as "recall@10>=0.95*full".

A gate is METRIC, `>=` or `>`, and a level. The level is a number between 0 and 1, or the same
metric of `keep` or `full`, with a factor before it and something added or taken away behind it:
`mrr@10>=0.3`, `recall@10>=keep`, `recall@10>=0.95*full`, `ndcg@10>keep+0.01`. The word `keep` alone
is short for `recall@10>=keep`: the crossover, where the new space is as good as the old one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from xbtmigrate.errors import ConfigError, EvaluationError
from xbtmigrate.evaluation.retrieval import METRICS

Means: TypeAlias = Mapping[str, float]

# Only the two ends: the other systems differ between evaluations.
ANCHORS = ("keep", "full")

CROSSOVER = "recall@10>=keep"

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_GATE = re.compile(
    rf"(?P<metric>[^\s<>=]+)\s*(?P<sign>>=|>)\s*"
    # A level is a plain number, or an anchor with factor and summand; never a number with a
    # summand.
    rf"(?:(?P<number>{_NUMBER})"
    rf"|(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<anchor>[a-z]+)"
    rf"(?:\s*(?P<added>[+-]\s*{_NUMBER}))?)"
)
_HINT = (
    'write METRIC>=LEVEL or METRIC>LEVEL, for example "recall@10>=keep", '
    '"recall@10>=0.95*full", "ndcg@10>keep+0.01" or "mrr@10>=0.3"'
)


@dataclass(frozen=True, slots=True)
class LiveQuality:
    """What a backfill has measured of its live gallery so far.

    Attributes:
        plan: Digest of the plan.
        gate: The gate that it was held against, as it was written.
        level: The level of the gate at the last measurement.
        fractions: Shares re-encoded, ascending, n.
        values: The metric of the gate at each, n.
    """

    plan: str
    gate: str
    level: float
    fractions: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def add(self, fraction: float, found: GateResult) -> LiveQuality:
        """Return it with one more measurement; a repeated share replaces the earlier one."""
        kept = [row for row, each in enumerate(self.fractions) if each < fraction]
        return LiveQuality(
            self.plan,
            self.gate,
            found.level,
            (*(self.fractions[row] for row in kept), fraction),
            (*(self.values[row] for row in kept), found.value),
        )


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of a gate for one system.

    Attributes:
        gate: The gate as it was written.
        value: The system's metric.
        level: What it is held against.
        met: Whether the condition holds.
    """

    gate: str
    value: float
    level: float
    met: bool

    def __str__(self) -> str:
        word = "met" if self.met else "not met"
        return f"gate {self.gate} {word}: {self.value:.4f} against {self.level:.4f}"


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on one metric of a system.

    Attributes:
        text: The gate as it was written.
        metric: One of `METRICS`.
        strict: Whether the level itself is not enough (`>`).
        anchor: `keep` or `full`, whose metric the level is made from; None for a number.
        factor: Multiplies the anchor's metric.
        added: Added to that; the whole level where there is no anchor.
    """

    text: str
    metric: str
    strict: bool
    anchor: str | None
    factor: float
    added: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Parse a gate.

        Raises:
            ConfigError: It is not a gate, names what is not measured, or can never be met.
        """
        text = CROSSOVER if text.strip() == "keep" else text
        found = _GATE.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"'{text}' is not a quality gate", _HINT)
        metric, number, anchor = found["metric"], found["number"], found["anchor"]
        if metric not in METRICS:
            raise ConfigError(
                f"the gate '{text}' names '{metric}', which is not measured",
                f"name one of {', '.join(METRICS)}",
            )
        if anchor is not None and anchor not in ANCHORS:
            raise ConfigError(
                f"the gate '{text}' compares with '{anchor}'", f"name {' or '.join(ANCHORS)}"
            )
        # Every metric lies in [0, 1]; 95 is a likely slip for 95 %.
        if number is not None and float(number) > 1:
            raise ConfigError(
                f"the gate '{text}' can never be met: {metric} is at most 1",
                "write 95 % as 0.95",
            )
        return cls(
            text=text.strip(),
            metric=metric,
            strict=found["sign"] == ">",
            anchor=anchor,
            factor=float(found["factor"] or 1),
            added=float(number or "".join((found["added"] or "0").split())),
        )

    def level(self, cells: Mapping[str, Means]) -> float:
        """Compute the level that the metric is compared with.

        Args:
            cells: Means by metric of `keep` and `full`, on the same queries as the system's; only
                the gate's own anchor is looked at.

        Raises:
            EvaluationError: The anchor was not measured.
        """
        if self.anchor is None:
            return self.added
        if self.anchor not in cells:
            raise EvaluationError(
                f"the gate '{self.text}' compares with {self.anchor}, which was not measured here",
                "compare with a number or with what was measured",
            )
        return self.factor * cells[self.anchor][self.metric] + self.added

    def judge(self, system: Means, cells: Mapping[str, Means]) -> GateResult:
        """Compare a system's figures with the gate.

        Args:
            system: The system's means by metric.
            cells: As for `level`.
        """
        value, level = system[self.metric], self.level(cells)
        return GateResult(self.text, value, level, value > level if self.strict else value >= level)
