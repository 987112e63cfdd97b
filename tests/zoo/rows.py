"""The specimens that every test run leads: a stretch of seeds, and cases that were found."""

from __future__ import annotations

from tests.zoo.specimen import Specimen

SEEDS = range(37)
_WITHOUT = "points without a vector stop a run that has begun, or are lost from a shadow"
_EMBEDDED = "verify misses a setting that the embedded mode does not keep"
_NAME = "finalize prints a name with spaces that cannot be typed"
_SURROGATE = "a lone surrogate ends in a traceback"
NOT_YET: dict[int, str] = {
    **dict.fromkeys((3, 5, 6, 7, 11, 15, 16, 17, 35), _WITHOUT),
    **dict.fromkeys((1, 18), _EMBEDDED),
    **dict.fromkeys((10, 27), _NAME),
    32: _SURROGATE,
}
"""Seeds of the stretch that break a law, and why; `python -m tests.zoo --not-yet` tries them."""

FOUND: list[tuple[str, Specimen]] = [
    ("pages larger than strict mode's", Specimen(place="server", strict=("reads",))),
    (
        "hubness in pages larger than strict mode's",
        Specimen(place="server", strategy="fastfill", strict=("reads",)),
    ),
    ("hubness without a shard key", Specimen(place="keyed", strategy="fastfill")),
    ("one judged query", Specimen(count=40, texts=("too long",), judged=True, strategy="bridge")),
]
"""What was wrong once, and the shortest specimen that showed it."""


def fixed(*, embedded: bool) -> list[tuple[str, Specimen]]:
    """Return the fixed set, by name, of one kind of place."""
    drawn = [(str(seed), Specimen.draw(seed)) for seed in SEEDS if seed not in NOT_YET]
    return [
        (name, each) for name, each in [*drawn, *FOUND] if (each.place == "embedded") == embedded
    ]
