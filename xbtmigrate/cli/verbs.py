"""List the verbs by step, and show them; imports nothing, so that --help answers at once."""

from __future__ import annotations

from typing import NamedTuple

import xbtmigrate

DOCS = "docs/commands.md"
STEPS = {
    "measure": "1. Measure",
    "write": "2. Write the new vectors",
    "switch": "3. Switch applications, or go back",
    "serve": "Answer queries meanwhile",
    "help": "Find your way",
}


class Verb(NamedTuple):
    """One command of the program.

    Attributes:
        step: Key of `STEPS`.
        module: Module of `cli/commands` that parses it.
        function: Function in that module.
        summary: What it does for a person, in a line.
        example: A call worth copying.
        effect: What it changes, as `--dry-run` reports it.
    """

    step: str
    module: str
    function: str
    summary: str
    example: str
    effect: str

    def example_of(self, name: str) -> str:
        """Return the whole command line of the example."""
        return f"xbtmigrate {name} {self.example}".rstrip()


FILES = "reads the collection and writes files under .xbtmigrate/ only"
RUN = "writes a request to the journal, which the running backfill follows"
NOTHING = "reads only"
WRITES = "changes the collection"

VERBS = {
    "init": Verb(
        "measure",
        "init",
        "init",
        "Write a configuration for a collection",
        "--url http://127.0.0.1:6333 --collection packages",
        "writes the configuration file",
    ),
    "export-texts": Verb(
        "measure",
        "export_texts",
        "export_texts",
        "Write down what to embed, for a model elsewhere",
        "--out to-embed --all",
        "reads the collection and writes Parquet files",
    ),
    "make-queries": Verb(
        "measure",
        "make_queries",
        "make_queries",
        "Write queries made from the collection's titles",
        "--field title --count 300",
        "reads the collection and writes one file",
    ),
    "plan": Verb(
        "measure",
        "plan",
        "plan",
        "Measure whether and how to move to the new model",
        "--report plan.html",
        FILES,
    ),
    "bench": Verb(
        "measure",
        "bench",
        "bench",
        "Measure how fast your server is, and predict the time",
        "--yes",
        WRITES,
    ),
    "train-projector": Verb(
        "measure",
        "train_projector",
        "train_projector",
        "Fit the maps between both models",
        "--pairs 20000",
        FILES,
    ),
    "evaluate": Verb(
        "measure",
        "evaluate",
        "evaluate",
        "Measure search quality on judged queries",
        "--queries judged.parquet --report report.html",
        FILES,
    ),
    "backfill": Verb(
        "write",
        "backfill",
        "backfill",
        "Write the new vectors while the collection serves",
        "--online --fraction 0.2",
        WRITES,
    ),
    "status": Verb(
        "write",
        "status",
        "status",
        "Show the state of the migration, once or live",
        "--watch",
        NOTHING,
    ),
    "pause": Verb(
        "write",
        "control",
        "pause",
        "Pause a running backfill",
        "",
        RUN,
    ),
    "resume": Verb(
        "write",
        "control",
        "resume",
        "Resume a paused backfill",
        "",
        RUN,
    ),
    "throttle": Verb(
        "write",
        "control",
        "throttle",
        "Change the limits of a running backfill",
        "--max-rate 2000",
        RUN,
    ),
    "verify": Verb(
        "switch",
        "verify",
        "verify",
        "Check every point before a cutover",
        "--sample 20000",
        WRITES,
    ),
    "compare": Verb(
        "switch",
        "compare",
        "compare",
        "Look at what both models find, side by side",
        "--no-browser",
        FILES,
    ),
    "cutover": Verb(
        "switch",
        "cutover",
        "cutover",
        "Switch applications to the new vectors",
        '--gate "recall@10>=keep" --yes',
        WRITES,
    ),
    "rollback": Verb(
        "switch",
        "rollback",
        "rollback",
        "Switch back to the old vectors",
        "--yes",
        WRITES,
    ),
    "finalize": Verb(
        "switch",
        "finalize",
        "finalize",
        "Delete the old vectors for good",
        "--yes",
        WRITES,
    ),
    "abort": Verb(
        "switch",
        "abort",
        "abort",
        "Undo a migration before its cutover",
        "--yes",
        WRITES,
    ),
    "publish": Verb(
        "serve",
        "publish",
        "publish",
        "Store in Qdrant what applications need for queries",
        "--yes",
        "stores files beside the journal in Qdrant",
    ),
    "serve": Verb(
        "serve",
        "serve",
        "serve",
        "Answer queries over HTTP",
        "--shadow-read 0.1",
        "answers queries until Ctrl-C, and changes nothing",
    ),
    "export-onnx": Verb(
        "serve",
        "export_onnx",
        "export_onnx",
        "Write a projector for other languages",
        "--out bridge.onnx",
        "writes one file",
    ),
    "doctor": Verb(
        "help",
        "doctor",
        "doctor",
        "Report what is wrong and how to fix it",
        "--yes",
        WRITES,
    ),
    "schema": Verb(
        "help",
        "schema",
        "schema",
        "Print the JSON Schema of what a command prints",
        "status",
        NOTHING,
    ),
    "demo": Verb(
        "help",
        "demo",
        "demo",
        "Run the whole path on sample data",
        "--folder try-it",
        "builds a sample collection in a new folder",
    ),
}

MANY = ("plan", "evaluate", "backfill", "verify", "cutover", "rollback", "finalize", "abort")
"""Verbs that run for each collection of a configuration of many."""

OPTIONS = {
    "--version": "Print the version and exit",
    "--install-completion": "Set up completion for your shell",
    "--show-completion": "Print the completion script",
    "-h, --help": "Show this page; after a command, its options",
}


def help_page() -> str:
    """Return the page of `xbtmigrate --help`: the verbs, grouped by step."""
    sections = {
        title: {name: verb.summary for name, verb in VERBS.items() if verb.step == step}
        for step, title in STEPS.items()
    }
    lines = [
        "Usage: xbtmigrate COMMAND [OPTIONS]",
        "",
        "Upgrade the embedding model behind a live Qdrant collection: measured, then",
        "done online.",
    ]
    for title, rows in (sections | {"Options": OPTIONS}).items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<22}{text}" for name, text in rows.items()]
    lines += [
        "",
        "Example: xbtmigrate init --collection packages; then what each `Next:` names.",
        f"Documentation: {DOCS}",
        "Exit codes: 0 done, 1 error, 2 usage, 3 a check failed, 130 interrupted.",
    ]
    return "\n".join(lines) + "\n"


def version_line() -> str:
    """Return what `xbtmigrate --version` prints."""
    return f"xbtmigrate {xbtmigrate.__version__}\n"
