"""Write a CSV template for judged queries: people write what users would search for."""

from __future__ import annotations

import csv
from pathlib import Path

from xbtmigrate.files import write_atomically
from xbtmigrate.types import Modality
from xbtmigrate.workflows.points import Points

ROWS = 100
SHOWN = 300
"""Characters of a point's content that the template shows."""
FORMULA = ("=", "+", "-", "@")
"""First characters that make a spreadsheet read a cell as a formula."""


def write_template(path: Path, points: Points, stored: Modality) -> None:
    """Write a CSV with one row a point: its content to read, and an empty query to write.

    An existing file may hold someone's work, so it is not overwritten.

    Args:
        path: The file.
        points: A sample of the points that have their content.
        stored: What the stored vectors embed.
    """
    if path.exists():
        return
    # A caption helps a person more than the reference of an image does.
    contents = points.texts if any(points.texts) else points.content(stored)
    rows = [
        {"text": "", "relevant": point, "content": _shown(content)}
        for point, content in zip(points.ids[:ROWS], contents[:ROWS], strict=True)
    ]

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["text", "relevant", "content"])
            table.writeheader()
            table.writerows(rows)

    write_atomically(path, write)


def _shown(content: str | None) -> str:
    """Return the content as one line that no spreadsheet runs as a formula."""
    # Cut first, since contents can be long; to twice the length, as white space is merged next.
    printable = "".join(c if c.isprintable() else " " for c in (content or "")[: 2 * SHOWN])
    line = " ".join(printable.split())[:SHOWN]
    # Spreadsheets take a cell with a leading apostrophe for text.
    return f"'{line}" if line.startswith(FORMULA) else line
