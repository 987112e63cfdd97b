"""Ask at a terminal for what a collection does not show of itself, and try each answer at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.parsers import parse_model
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.types import Modality
from xbtmigrate.workflows.plan.init import (
    check_queries,
    offer_template,
    try_new_model,
    try_old_model,
)
from xbtmigrate.workflows.plan.known_models import model_named, propose_models
from xbtmigrate.workflows.plan.write_config import Answers, Found, Server

TEMPLATE = "queries-to-judge.csv"
LATER = "later, in the file"
SHOWN = 60
"""Characters of a sample value that are shown."""


def can_ask() -> bool:
    """Return whether somebody sees a question and can answer it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def choose(question: str, options: Sequence[str], *, own: str = "") -> str:
    """Let one of some options be chosen by its number.

    Args:
        question: The question.
        options: What can be chosen; Enter takes the first.
        own: What else can be typed, in words; "" for nothing else.
    """
    render.say(question)
    for number, option in enumerate(options, 1):
        render.say(f"  {number}  {option}")
    if own:
        render.say(f"A number, or {own}.")
    while True:
        typed = typer.prompt("Answer", default="1" if options else "", err=True)
        if typed.isdecimal() and 1 <= int(typed) <= len(options):
            return options[int(typed) - 1]
        if own and not typed.isdecimal():
            return str(typed)
        render.note(f"There is no option {typed}.")


def ask_fields(found: Found, answers: Answers) -> Answers:
    """Ask which field the stored vectors embed; where there is only one, it is that."""
    fields = {**found.fields.texts, **found.fields.images}
    if len(fields) < 2:
        return answers
    # Templates and samples may have several lines, an option has one.
    rows = [f'{name}: "{sample[:SHOWN]}"'.replace("\n", "\\n") for name, sample in fields.items()]
    chosen = choose(
        f"Which field of the payload do the vectors '{answers.vector}' embed?",
        rows,
        own='a template of several, such as "{title}. {keywords}"',
    )
    field = dict(zip(rows, fields, strict=True)).get(chosen, chosen)
    if field in found.fields.images:
        return answers.but(image=field, stored=Modality.IMAGE)
    return answers.but(text=field, stored=Modality.TEXT)


def ask_models(server: Server, found: Found, answers: Answers) -> Answers:
    """Ask for the models that are not known yet."""
    own = "an encoder with its options, such as openai model=M"
    if answers.old is None:
        size = found.vectors[answers.vector][0]
        answers = _until_tried(
            f"Which model made the stored vectors ({size} numbers)?",
            _old_models(server, answers, size),
            f"{own}, or none where it is gone or unknown",
            lambda text: _try_old(server, found, answers.but(old=parse_model(text))),
            answers,
        )
    if answers.new is None:
        known = propose_models(server.base)
        answers = _until_tried(
            "Which model do you move to?",
            [each for each in known if parse_model(each) != answers.old],
            own,
            lambda text: _try_new(server, found, answers.but(new=parse_model(text))),
            answers,
        )
    return answers


def ask_queries(server: Server, found: Found, answers: Answers) -> Answers:
    """Ask for judged queries, and offer a file to write them in."""
    if answers.queries is not None:
        return answers
    render.say(
        "Judged queries decide what is recommended: what users type, and the points that answer "
        "it (docs/judging.md)."
    )
    while True:
        name = typer.prompt(
            "File of judged queries (Enter for none)", default="", show_default=False, err=True
        )
        if not name:
            break
        try:
            check_queries(server, name)
        except XbtMigrateError as error:
            render.note(f"{error.message}; {error.hint}")
        else:
            return answers.but(queries=name)
    known = answers.old is not None and answers.new is not None
    if known and typer.confirm(f"Write {TEMPLATE} with points to judge?", default=False, err=True):
        offer_template(server, found, answers, server.base / TEMPLATE)
        return answers.but(queries=TEMPLATE)
    return answers


def _until_tried(
    question: str,
    options: Sequence[str],
    own: str,
    attempt: Callable[[str], Answers | None],
    otherwise: Answers,
) -> Answers:
    """Ask until an answer works, or is left for later."""
    while True:
        text = choose(question, [*options, LATER], own=own)
        if text == LATER:
            return otherwise
        try:
            tried = attempt(text)
        except XbtMigrateError as error:
            render.note(f"{error.message}; {error.hint}")
            continue
        if tried is not None:
            return tried


def _old_models(server: Server, answers: Answers, size: int) -> list[str]:
    named = model_named(answers.vector)
    first = [f"{named['encoder']} model={named['model']}"] if named else []
    return list(dict.fromkeys(first + propose_models(server.base, size, answers.stored)))


def _try_old(server: Server, found: Found, answers: Answers) -> Answers | None:
    if answers.old_is_gone:
        render.say("Nothing checks then what the stored vectors embed.")
        return answers
    answers, match = try_old_model(server, found, answers)
    cosine = match.median_cosine[answers.stored.value]
    render.say(f"Median cosine with the stored vectors: {cosine:.4f} on {match.sample} points.")
    if match.matches:
        return answers
    other = next((each for each in Modality if each.value == match.stored), None)
    if other is not None:
        render.say(f"They embed the {other}.")
        return answers.but(stored=other)
    render.say(match.remark or "This model did not make them.")
    # The sample is small, and only the user knows what was done to the vectors.
    return answers if typer.confirm("Take it all the same?", default=False, err=True) else None


def _try_new(server: Server, found: Found, answers: Answers) -> Answers:
    render.say(f"It makes vectors of {try_new_model(server, found, answers):,} numbers.")
    return answers
