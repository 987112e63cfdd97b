"""The specimens that every test run leads: a stretch of seeds, and cases that were found."""

from __future__ import annotations

from tests.zoo.specimen import Specimen

SEEDS = range(52)
REFUSED = ("8", "9", "22", "24", "31")
"""Those of them that are refused before anything is written; every other one is led to its end."""

FOUND: list[tuple[str, Specimen]] = [
    ("pages larger than strict mode's", Specimen(place="server", strict=("reads",))),
    (
        "hubness in pages larger than strict mode's",
        Specimen(place="server", strategy="fastfill", strict=("reads",)),
    ),
    ("hubness without a shard key", Specimen(place="keyed", strategy="fastfill")),
    (
        "scores that are no numbers",
        Specimen(place="server", strategy="forward", unusable=("huge", "infinite", "nan", "zero")),
    ),
    ("a name that has to be quoted", Specimen(place="server", odd_name=True)),
    ("a migration behind another", Specimen(place="server", alias="none", leftover="finished")),
    (
        "hubness of a shadow without an index that strict mode wants",
        Specimen(
            place="server", strategy="fastfill", layout="shadow", strict=("indexes", "unindexed")
        ),
    ),
    ("a first point that no model reads", Specimen(place="server", texts=("too long",))),
    (
        "points that nothing can be made of, in a shadow",
        Specimen(place="server", strategy="forward", vector="", without=7, bare=2),
    ),
    (
        "evaluated behind another migration, before anything is written",
        Specimen(vector="", alias="read", leftover="finished", judged=True),
    ),
    ("fewer points than a projector needs", Specimen(strategy="fastfill", count=30)),
    ("one point, which no query can be made from", Specimen(count=1)),
    ("an old model that is away at the cutover", Specimen(strategy="forward", outage=True)),
    (
        "a second run of a shadow with as many indexes as strict mode allows",
        Specimen(place="server", texts=("too long",), strict=("indexes",), indexes=True),
    ),
    ("one judged query", Specimen(count=3, texts=("empty", "long"), judged=True)),
]
"""What was wrong once, and the shortest specimen that showed it."""


def fixed(*, embedded: bool) -> list[tuple[str, Specimen]]:
    """Return the fixed set, by name, of one kind of place."""
    drawn = [(str(seed), Specimen.draw(seed)) for seed in SEEDS]
    return [
        (name, each) for name, each in [*drawn, *FOUND] if (each.place == "embedded") == embedded
    ]
