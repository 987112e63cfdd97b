"""Leads a specimen from `init` to `finalize` as a user would, who follows what the tool prints.

The second law: every refusal is one sentence with a way out and the documented exit code, and never
a traceback. A way out that names an option, a setting or a command is followed.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.command import inside
from tests.zoo.application import Application
from tests.zoo.encoder import OUTAGE
from tests.zoo.oracle import GoneError, Seen, complete, look, untouched
from tests.zoo.refusals import BrokenError, Outcome, ways_out
from tests.zoo.specimen import Specimen

STAYING = ("keep", "bridge")
STEPS = 60
"""Commands that a user types in one migration before giving up."""


class RefusedError(Exception):
    """The tool refused and named no way out that can be followed here."""


@dataclass(slots=True)
class Journey:
    """One specimen on its way.

    Attributes:
        specimen: What is led.
        url: What the configuration says of the server.
        grpc_port: Port of its gRPC interface.
        folder: Where the user works.
        application: Who owns the collection.
        log: Commands so far, with their exit codes.
    """

    specimen: Specimen
    url: str
    grpc_port: int
    folder: Path
    application: Application
    log: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    accepted: int = 0
    _before: Seen = field(default_factory=lambda: Seen({}))
    _wrote: bool = False
    _begun: int = 0
    _strategy: str = ""
    _changes: list[str] = field(default_factory=list)
    _last: dict[str, Any] = field(default_factory=dict)

    def lead(self) -> str:
        """Lead it to its end; returns how it ended.

        Raises:
            BrokenError: A law is broken.
        """
        application = self.application
        application.create()
        if self.specimen.leftover == "foreign":
            self._make_foreign()
        self._before = self._look(application.name)
        try:
            self._go()
            if self.specimen.leftover == "finished" and self._strategy not in STAYING:
                self._go_on()
        except RefusedError as refused:
            faults = ["the application's collection is gone"]
            with contextlib.suppress(GoneError):
                faults = untouched(self._before, self._look(application.name))
            if faults or self._wrote:
                raise BrokenError(f"stuck behind a write: {refused}; {faults}") from None
            return f"refused: {refused}"
        return "led to its end"

    def _go(self) -> None:
        self._start()
        if self._strategy in STAYING:
            self._stay()
            return
        self._backfill()
        self._must("verify")
        self._switch()
        self._finalize()

    def _go_on(self) -> None:
        """Move once more, from the vectors that the first migration has made."""
        switch, application = self._switch_file(), self.application
        application.move_on(switch["target_collection"], switch["new_vector"])
        self._before, self._wrote = self._look(application.name), False
        self._begun = len(self.log)
        self._go()

    def _start(self) -> None:
        if self.application.generation == 0:
            self._must("init", "--url", self.url, "--collection", self.application.configured)
            self._configure()
        else:
            self._change()
        self._look_on()
        if self.specimen.judged:
            self._judge()
        if self.specimen.leftover == "planned":
            self._set("plan.strategy", "auto")
            self._must("plan")
            self._set("plan.strategy", self.specimen.strategy)
        self._must("plan")
        self._look_on()
        self._strategy = self._last["strategy"]
        if self._strategy in ("fastfill", "forward", "bridge"):
            self._must("train-projector", "--kind", "procrustes,ridge", "--pairs", "400")
        if self.specimen.judged:
            self._must("evaluate", "--queries", "judged.parquet")

    def _stay(self) -> None:
        """Go as far as a migration goes that writes no vectors."""
        self._write(6)
        if self._strategy == "bridge":
            self._must("publish", "--yes")
        self._look_on()
        faults = untouched(self._before, self._look(self.application.name))
        if faults:
            raise BrokenError(f"{self._strategy} wrote: {faults}")

    def _backfill(self) -> None:
        if self.specimen.leftover == "aborted":
            self._must("backfill", "--online", "--max-slowdown", "off")
            self._must("abort", "--yes", "--notice", "0")
            faults = untouched(self._before, self._look(self.application.name))
            if faults:
                raise BrokenError(f"abort left something: {faults}")
            self._must("plan")
        self._must("backfill")
        self._write(6)
        if self.specimen.outage:
            (self.folder / OUTAGE).touch()
        writes = self.specimen.writer and self.specimen.place != "embedded"
        with self.application.writing() if writes else contextlib.nullcontext():
            self._must("backfill", "--online", "--max-slowdown", "off", "--batch-size", "64")
        if writes:
            self._before = self._look(self.application.name)
        self._look_on()
        self._write(6)

    def _switch(self) -> None:
        options = self._cut_over()
        if self.specimen.back:
            self._must("rollback")
            self._must("rollback", "--yes")
            self._look_on()
            self._write(3)
            self._must("verify")
            options = self._cut_over()
        if self.specimen.writer:
            self.application.write(5, vector=self._new_vector(), place=self._live())
            points = self._look(self._live()).points
            self._before = replace(self._before, points=points)
        self._must("cutover", *options, "--yes")

    def _cut_over(self) -> list[str]:
        options = self._must("cutover")
        options += self._must("cutover", *options, "--yes")
        self._look_on()
        beside = self._switch_file()["layout"] == "in_place"
        self._check("after the cutover", beside=beside)
        return options

    def _finalize(self) -> None:
        self._must("finalize")
        self._must(*shlex.split(self._last["next"])[1:], "--notice", "0")
        self._changes = self._last["configuration"]
        self._look_on()
        self._check("at the end")
        marked = self._look(self._live()).marked
        if marked:
            raise BrokenError(f"{len(marked)} points keep the tool's mark, such as {marked[0]}")

    def _check(self, when: str, *, beside: bool = False) -> None:
        """Compare what the application reads now with what it wrote."""
        seen, vector = self._look(self._live()), self._new_vector()
        faults = complete(
            self._before,
            seen,
            self.application,
            vector,
            strategy=self._strategy,
            accepted=self.accepted,
            beside=beside,
        )
        if faults:
            raise BrokenError(f"{when}: {faults}")

    def _must(self, verb: str, *options: str) -> list[str]:
        """Run a verb until it is done, following what it says; returns options that it took more.

        Raises:
            RefusedError: There is no way out that can be followed here.
            BrokenError: The refusal itself breaks the second law.
        """
        more: list[str] = []
        tried: set[str] = set()
        while True:
            outcome = self._run(verb, *options, *more)
            if outcome.code == 0:
                self._last = outcome.document
                return more
            self.refusals.append(str(outcome))
            outcome.check()
            ways = ways_out(outcome, self.application)
            way = next((each for each in ways if each not in tried), None)
            if way is None or len(self.log) - self._begun > STEPS:
                raise RefusedError(f"{outcome}"[:700])
            tried.add(way)
            more += self._follow(way, verb)
            if verb == "train-projector" and self._strategy == "full":
                return more

    def _follow(self, way: str, verb: str) -> list[str]:
        """Do what was offered; returns options for the verb that offered it."""
        if way.startswith("PATCH "):
            self.application.relax(json.loads(way.removeprefix("PATCH "))["strict_mode_config"])
            self._before = self._look(self.application.name)
            return []
        if way == "judge":
            self._judge()
            return []
        words = shlex.split(way)
        if way.startswith("--"):
            if words[0] == "--accept-without-vector":
                self.accepted = max(self.accepted, int(words[1]))
            return words
        if words[0] == "set":
            self._set(words[1], words[2])
            # The plan does not depend on how many points it may leave out.
            if verb not in ("init", "plan") and words[1] != "plan.max_missing":
                self._must("plan")
                self._strategy = self._last["strategy"]
        elif way != "again":
            self._must(*words)
        return []

    def _look_on(self) -> None:
        """Run status and doctor, which answer in every state."""
        for verb in ("status", "doctor"):
            code, out, err = self._typed(verb)
            if code not in (0, 3) and not ("error: " in err and "hint: " in err):
                raise BrokenError(f"`{verb}` ended with {code}: {out[-300:]} {err[-300:]}")

    def _run(self, *command: str) -> Outcome:
        """Run a command with --json."""
        self._wrote = self._wrote or ("--online" in command or "--yes" in command)
        code, out, err = self._typed(*command, "--json")
        try:
            return Outcome(command, code, json.loads(out))
        except ValueError:
            said = f"{out[-300:]!r} {err[-300:]!r}"
            raise BrokenError(f"`{shlex.join(command)}` printed no JSON: {said}") from None

    def _typed(self, *command: str) -> tuple[int, str, str]:
        """Run a command; returns its exit code, stdout and stderr."""
        said = shlex.join(command)
        try:
            code, out, err = inside(*command, cwd=self.folder)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = "".join(traceback.format_exception(error)[-3:])
            raise BrokenError(
                f"`{said}` ended in a traceback: {type(error).__name__}: {error}\n{where}"
            ) from None
        self.log.append(f"{said} -> {code}")
        if "Traceback" in err:
            raise BrokenError(f"`{said}` printed a traceback: {err[-600:]}")
        return code, out, err

    def _write(self, times: int) -> None:
        """Let the application write the old way between two commands."""
        if self.specimen.writer:
            self.application.write(times)
            self._before = self._look(self.application.name)

    def _look(self, name: str) -> Seen:
        with self.application.client() as client:
            return look(client, name)

    def _live(self) -> str:
        """Name that the application reads after the cutover."""
        if self.specimen.alias in ("read", "beside"):
            return self.application.alias
        return str(self._switch_file()["target_collection"])

    def _new_vector(self) -> str:
        return str(self._switch_file()["new_vector"])

    def _switch_file(self) -> dict[str, Any]:
        files = (self.folder / ".xbtmigrate").glob("*/switch.json")
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        found: dict[str, Any] = json.loads(newest.read_text("utf-8"))
        return found

    def _configure(self) -> None:
        """Fill in what `init` leaves to the user."""
        specimen, file = self.specimen, self.folder / "xbtmigrate.toml"
        text = file.read_text("utf-8")
        modality = "image" if specimen.images else "text"
        models = f'[old_model]\nencoder = "zoo"\nstored = "{modality}"\n\n'
        models += '[new_model]\nencoder = "zoo"\n\n'
        head, rest = text.split("\n[old_model]", 1)
        tail = rest.split("\n[plan]", 1)[1]
        file.write_text(f"{head}\n{models}[plan]{tail}", "utf-8")
        self._set_models()
        self._set("plan.strategy", specimen.strategy)
        self._set("plan.layout", specimen.layout)
        self._set("plan.sample", 100)
        if specimen.place != "embedded":
            self._set("qdrant.grpc_port", self.grpc_port)
        if specimen.place == "grpc":
            self._set("qdrant.grpc", True)
        if specimen.images:
            self._set("payload.image", "image")
        self._set("payload.text", self.application.text_setting)
        if specimen.new_distance:
            self._set("new_model.distance", specimen.new_distance)

    def _change(self) -> None:
        """Change the configuration as `finalize` has said."""
        for line in self._changes:
            if given := re.fullmatch(r'(\S+) = "(.*)"', line):
                self._set(given[1], given[2])
            elif line.startswith("qdrant.new_vector"):
                self._set("qdrant.new_vector", "newest")
        self._set_models()

    def _set_models(self) -> None:
        application = self.application
        models = {"old_model": application.old_options, "new_model": application.new_options}
        for section, options in models.items():
            for key, value in options.items():
                self._set(f"{section}.{key}", value)

    def _set(self, key: str, value: object) -> None:
        """Set one key of the configuration, in its section."""
        section, _, name = key.partition(".")
        file = self.folder / "xbtmigrate.toml"
        value = 1.0 if value == "1.0" else value
        lines = file.read_text("utf-8").splitlines()
        start = lines.index(next(each for each in lines if each.startswith(f"[{section}]")))
        ends = [row for row in range(start + 1, len(lines)) if lines[row].startswith("[")]
        end = ends[0] if ends else len(lines)
        kept = [each for each in lines[start + 1 : end] if not re.match(rf"{name}\s*=", each)]
        given = f"{name} = {json.dumps(value, ensure_ascii=False)}"
        lines[start + 1 : end] = [given, *kept]
        file.write_text("\n".join(lines) + "\n", "utf-8")

    def _judge(self) -> None:
        """Write judged queries: the first words of some texts, with ids as a user spells them."""
        points = list(self._before.points.items())[:: max(1, len(self._before.points) // 30)]
        texts, relevant = [], []
        for each, (payload, _, _) in points:
            if content := self.application.content(payload):
                texts.append(" ".join(content.split()[:5]) or content[:20])
                relevant.append([str(each).upper() if len(texts) % 2 else str(each)])
        table = pa.table(
            {
                "text": pa.array(
                    [each.encode("utf-8", "replace").decode() for each in texts], pa.string()
                ),
                "relevant": pa.array(relevant, pa.list_(pa.string())),
            }
        )
        pq.write_table(table, self.folder / "judged.parquet")
        self._set("plan.queries", "judged.parquet")

    def _make_foreign(self) -> None:
        """Make a collection with the name that a shadow would have."""
        with self.application.client() as client:
            client.create_collection(f"{self.application.name}__xbtmigrate", vectors_config={})
