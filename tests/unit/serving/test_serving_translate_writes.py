"""What an application asks of a write holds for the marks that follow it, too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qdrant_client import models

from xbtmigrate.serving.dual_write import Pair
from xbtmigrate.serving.translate_writes import WriteTranslator


class Recorder:
    """A client that keeps the options of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **options: self.calls.append((name, options))


def test_marks_are_written_with_the_ordering_of_their_vectors():
    completer = SimpleNamespace(
        vectors_in_place=lambda pair: {"new": pair.new}, mark=lambda *_: {"kind": "encoded"}
    )
    requests: Any = SimpleNamespace(home="c", completer=completer)
    options = {
        "wait": False,
        "ordering": models.WriteOrdering.STRONG,
        "timeout": 7,
        "shard_key_selector": "north",
    }
    client = Recorder()
    writes = WriteTranslator(requests)._update_in_place([1], [{}], [Pair({}, new=[1.0])], options)
    try:
        asked = next(writes)
        while True:
            asked = writes.send([each(client) for each in asked])
    except StopIteration:
        pass
    of_vectors, of_marks = client.calls
    assert of_vectors == ("update_vectors", options)
    del options["shard_key_selector"]  # each operation of a batch names its own
    assert of_marks == ("batch_update_points", options)
