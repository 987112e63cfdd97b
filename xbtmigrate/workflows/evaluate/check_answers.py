"""Check that judged queries are about this collection, before anything is paid for."""

from __future__ import annotations

from collections.abc import Sequence

from xbtmigrate.errors import CollectionError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.qdrant.wire.points import stored_id
from xbtmigrate.workflows.store import Store

PAGE = 256
TRANSLATE = (
    "relevant must hold point ids of this collection; ids of a payload field are translated by "
    "`xbtmigrate make-queries --judged FILE --id-field FIELD`"
)


def require_answers(store: Store, judged: Sequence[Questions]) -> None:
    """Refuse judged queries that none of the collection's points answers.

    Raises:
        CollectionError: They name what is no point id, or no point that is there.
    """
    wanted = list(
        dict.fromkeys(point for each in judged for relevant in each.relevant for point in relevant)
    )
    for point in wanted:
        try:
            stored_id(point)
        except CollectionError as error:
            raise CollectionError(
                f"{judged[0].basis}: '{point}' is not a point id", TRANSLATE
            ) from error
    # One that is there is enough: the points of some queries may have been deleted since.
    for start in range(0, len(wanted), PAGE):
        found = store.reader().read(set(), ids=wanted[start : start + PAGE])
        if any(len(batch) for batch in found):
            return
    if wanted:
        raise CollectionError(
            f"{judged[0].basis}: none of the {len(wanted):,} points that answer them, such as "
            f"'{wanted[0]}', is in '{store.facts.collection}'",
            TRANSLATE,
        )
