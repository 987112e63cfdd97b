"""Extend the site of mkdocs.yml: pages from outside docs/, every error message, the Python API.

mkdocs calls `on_files` and `on_page_markdown`. Links keep the form that works in the repository.
"""

from __future__ import annotations

import posixpath
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from messages import table_of_messages  # noqa: E402

OUTSIDE = {
    source: "index.md" if source == "README.md" else f"project/{source}"
    for source in (
        *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
        *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("examples/*/README.md"))),
        *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("plugins/*/README.md"))),
    )
}
SOURCES = {place: source for source, place in OUTSIDE.items()}
API = ("xbtmigrate", "xbtmigrate.serving", "xbtmigrate.protocols")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*)?\)")


def reference() -> list[str]:
    """Return a directive for each public name, which mkdocstrings replaces by its docstring."""
    names = [f"{module}.{name}" for module in API for name in import_module(module).__all__]
    return [f"::: {name}\n" for name in names if not name.rpartition(".")[2].startswith("__")]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead each link to the page's place on the site; a link to code becomes its text."""
    place = page.file.src_uri
    source = SOURCES.get(place, f"docs/{place}")
    if place == "troubleshooting.md":
        markdown += "\n" + "\n".join(table_of_messages())
    if place == "python.md":
        markdown += "\n## Reference\n\n" + "\n".join(reference())

    def lead(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / path).is_dir():
            path += "/README.md"
        if not (ROOT / path).exists():
            return link[0]  # mkdocs reports it
        if not path.startswith("docs/") and path not in OUTSIDE:
            return text
        there = OUTSIDE.get(path, path.removeprefix("docs/"))
        relative = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"{image}[{text}]({relative}{anchor or ''})"

    return LINK.sub(lead, markdown)
