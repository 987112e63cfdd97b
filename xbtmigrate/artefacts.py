"""Name, read and write the files of one migration, in `.xbtmigrate/<migration>/`.

Most files can be made again from the collection and the models. Those that record an earlier state
cannot: the ledger, and the points from before the first write. Vectors of the new model are kept
longer than the rest, so that none is paid for twice.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate import calibration_files
from xbtmigrate.backfill.order_file import OrderedIds, write_sorted
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.errors import ArtefactError
from xbtmigrate.evaluation.quality_gate import LiveQuality
from xbtmigrate.files import (
    check_seal,
    read_json,
    write_atomically,
    write_json,
)
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.point_hashes import PointHashes
from xbtmigrate.migration.switch import FILE, Switch
from xbtmigrate.ordering.benefit import BenefitModel
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.centring import FILE as CENTRING
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.scoring.hubness import StoredHubness
from xbtmigrate.tables import read_parquet, write_parquet
from xbtmigrate.types import Direction, PointId

FOLDER = ".xbtmigrate"


@dataclass(frozen=True, slots=True)
class Artefacts:
    """The files of one migration: their names, and methods that read and write them.

    Attributes:
        folder: `.xbtmigrate/<migration>` beside the configuration file.
    """

    folder: Path

    @property
    def plan_file(self) -> Path:
        """The frozen plan."""
        return self.folder / "plan.json"

    @property
    def order_file(self) -> Path:
        """The frozen order of re-encoding."""
        return self.folder / "order.parquet"

    @property
    def pairs_file(self) -> Path:
        """The pairs that the projectors were fitted on."""
        return self.folder / "pairs.parquet"

    @property
    def template_file(self) -> Path:
        """Template in which people write judged queries."""
        return self.folder / "queries-to-judge.csv"

    @property
    def votes_file(self) -> Path:
        """Queries that people answered on the page of `compare`, as judged queries."""
        return self.folder / "compared.jsonl"

    @property
    def serving_folder(self) -> Path:
        """Folder of the calibration and the learned benefit, for searches in a mixed gallery."""
        return self.folder / "serving"

    @property
    def switch_file(self) -> Path:
        """The collection, vector and model to query now; see `migration.switch`."""
        return self.folder / FILE

    @property
    def verification_file(self) -> Path:
        """Findings of the last verification."""
        return self.folder / "verification.json"

    @property
    def evaluation_file(self) -> Path:
        """Recommendation of the last evaluation on judged queries."""
        return self.folder / "evaluation.json"

    @property
    def live_quality_file(self) -> Path:
        """What the last backfill with `--until` measured on its way."""
        return self.folder / "quality.json"

    @property
    def baseline_file(self) -> Path:
        """Vectors and payload hashes of some points, from before the first write."""
        return self.folder / "baseline.parquet"

    @property
    def hubness_file(self) -> Path:
        """The payload key that holds the points' hubness."""
        return self.serving_folder / "hubness.json"

    @property
    def encoded_folder(self) -> Path:
        """Cached vectors of the new model."""
        return self.folder / "encoded"

    @property
    def ledger_file(self) -> Path:
        """Hashes of all points at the cutover, when both sides were equal."""
        return self.folder / "ledger.parquet"

    def projector_folder(self, direction: Direction) -> Path:
        """The fitted projector of one direction."""
        return self.folder / "projector" / direction

    @property
    def lora_folder(self) -> Path:
        """PEFT directory with LoRA weights of the new model, for queries over the bridge."""
        return self.folder / "projector" / "lora"

    def further_folder(self, direction: Direction) -> Path:
        """The best projector of every other kind, one folder each."""
        # Kept for `evaluate`, which compares the kinds; serving uses the chosen one alone.
        return self.folder / "projector" / "further" / direction

    def clear(self) -> None:
        """Delete the files of a finished migration.

        Vectors that were paid for stay, and so do queries that people wrote, and the switch, which
        applications read until the next cutover.
        """
        # Everything else belongs to one plan, and would be mistaken for the next one's.
        kept = {self.encoded_folder, self.template_file, self.votes_file, self.switch_file}
        for path in {*self.folder.iterdir()} - kept:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def save_plan(self, plan: Plan) -> None:
        """Store the plan."""
        # No seal: `Plan.parse` checks the plan's digest instead.
        text = plan.model_dump_json(indent=2)
        write_atomically(self.plan_file, lambda path: path.write_text(text, "utf-8"))

    def load_plan(self) -> Plan:
        """Read the plan and check that it was not edited.

        Raises:
            ArtefactError: There is no plan, or it is damaged.
        """
        file = self.plan_file
        try:
            return Plan.parse(file.read_bytes(), str(file))
        except OSError as error:
            raise ArtefactError(
                f"there is no plan at {file}",
                "make one with `xbtmigrate plan`; of a migration that has begun, "
                "`xbtmigrate doctor --yes` restores it",
            ) from error

    def save_switch(self, switch: Switch) -> None:
        """Store the switch."""
        write_json(self.switch_file, switch.model_dump(mode="json"))

    def save_order(
        self, batches: Iterable[pa.RecordBatch], name: str, tenants: str = ""
    ) -> OrderedIds:
        """Store the order of what `order_file.make_sortable` built, and return it."""
        write_atomically(self.order_file, lambda path: write_sorted(path, batches, name, tenants))
        # Reopened: the order may be longer than memory, and is read from the file in blocks.
        return OrderedIds.open(self.order_file)

    def save_spent(self, ids: Sequence[PointId]) -> None:
        """Store which points were re-encoded for the training pairs."""
        _save_ids(self.folder / "spent.parquet", ids)

    def load_spent(self) -> set[PointId]:
        """Read which points were re-encoded for the training pairs; none before a training."""
        return _load_ids(self.folder / "spent.parquet")

    def save_fold(self, ids: Sequence[PointId]) -> None:
        """Store which points were held out by fold; none if all that queries ask for were."""
        _save_ids(self.folder / "fold.parquet", ids)

    def load_fold(self) -> set[PointId]:
        """Read which points were held out by fold; none if training left out all of them."""
        return _load_ids(self.folder / "fold.parquet")

    def load_order(self) -> tuple[OrderedIds, str] | None:
        """Read the order, first to be encoded first, and its name; None if there is none."""
        if not self.order_file.exists():
            return None
        hint = "delete the file: the order is made again and finished points are skipped"
        check_seal(self.order_file, hint)
        try:
            order = OrderedIds.open(self.order_file)
            name = order.name
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise ArtefactError(f"{self.order_file} cannot be read: {error}", hint) from error
        return order, name

    def save_baseline(self, table: pa.Table) -> None:
        """Store the state of some points before the first write."""
        write_parquet(self.baseline_file, table)

    def load_baseline(self) -> pa.Table | None:
        """Read the state of some points before the first write; None if it was not stored."""
        columns = {"id": pa.string(), "payload": pa.string(), "vectors": pa.binary()}
        # Plans made before the file got its present name have it under the former one.
        former = self.folder / "witness.parquet"
        file = self.baseline_file if self.baseline_file.exists() else former
        try:
            return read_parquet(file, columns, "delete the file: it is optional")
        except FileNotFoundError:
            return None

    def save_ledger(self, ledger: PointHashes) -> None:
        """Store the hashes of all points at the cutover, when both sides were equal."""
        write_parquet(self.ledger_file, ledger.table())

    def load_ledger(self) -> PointHashes:
        """Read the hashes of all points at the cutover, when both sides were equal.

        Raises:
            ArtefactError: It is lost or damaged; then it is unknown which side is newer.
        """
        hint = (
            "restore it from a copy; without it, writes after the cutover cannot be told from "
            "older ones. `xbtmigrate doctor` lists what to do"
        )
        try:
            table = read_parquet(self.ledger_file, {"id": pa.string(), "hash": pa.string()}, hint)
        except FileNotFoundError as error:
            raise ArtefactError(
                f"{self.ledger_file} cannot be read: it is missing", hint
            ) from error
        return PointHashes(table["id"].to_pylist(), table["hash"].to_pylist())

    def list_unpaid(self) -> list[PointId]:
        """Return the points of the order whose new vectors were not paid for when it was made."""
        columns, hint = {"id": pa.string(), "paid": pa.bool_()}, "delete the file"
        table = read_parquet(self.order_file, columns, hint)
        return list(table.filter(pc.invert(table["paid"]))["id"].to_pylist())

    def save_live_quality(self, quality: LiveQuality) -> None:
        """Store what a backfill has measured of its live gallery."""
        write_json(self.live_quality_file, asdict(quality))

    def load_live_quality(self, plan: str) -> LiveQuality | None:
        """Read what a backfill under this plan (a digest) has measured; None for nothing."""
        try:
            hint = "delete the file: the next backfill --until writes it again"
            found = read_json(self.live_quality_file, LiveQuality, hint)
        except FileNotFoundError:
            return None
        return found if found.plan == plan else None

    def save_hubness(self, hubness: StoredHubness) -> None:
        """Store the payload key that holds the points' hubness for the present calibration."""
        write_json(self.hubness_file, asdict(hubness))

    def load_hubness(self) -> StoredHubness | None:
        """Read the payload key of the points' hubness; None if there is none."""
        hint = "run the backfill again: it stores the hubness again"
        try:
            return read_json(self.hubness_file, StoredHubness, hint)
        except FileNotFoundError:
            return None

    def save_calibration(self, calibration: Calibration) -> None:
        """Store the calibration; the stored hubness no longer fits it."""
        calibration_files.save_calibration(self.serving_folder, calibration)
        # Hubness depends on the bank of queries: that of another calibration is invalid.
        self.hubness_file.unlink(missing_ok=True)

    def load_calibration(self) -> Calibration | None:
        """Read the calibration; None if nothing was calibrated."""
        return calibration_files.load_calibration(self.serving_folder)

    def save_centring(self, centring: Centring | None) -> None:
        """Store how far queries of the new space are centred; None deletes what was stored."""
        if centring is None:
            (self.serving_folder / CENTRING).unlink(missing_ok=True)
        else:
            centring.save(self.serving_folder)

    def load_centring(self, forward: str) -> Centring | None:
        """Read how far queries are centred; None if that was not fitted for this projector.

        Args:
            forward: Digest of the forward projector.
        """
        found = Centring.load(self.serving_folder)
        return found if found is not None and found.forward == forward else None

    def save_benefit(self, model: BenefitModel) -> None:
        """Store the learned benefit of re-encoding a point."""
        calibration_files.save_benefit(self.serving_folder, model)

    def load_benefit(self, calibration: Calibration) -> BenefitModel | None:
        """Read the learned benefit of re-encoding a point; None without one for these parts."""
        return calibration_files.load_benefit(self.serving_folder, calibration)

    def open_vector_cache(self, fingerprint: str, dimension: int) -> VectorCache:
        """Open the cache of the vectors of a new model."""
        # One folder per model, named by a hash: a fingerprint may not be a valid file name.
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        return VectorCache(self.encoded_folder / name, fingerprint, dimension)


def _save_ids(path: Path, ids: Sequence[PointId]) -> None:
    write_parquet(path, pa.table({"id": pa.array(ids, pa.string())}))


def _load_ids(path: Path) -> set[PointId]:
    try:
        table = read_parquet(path, {"id": pa.string()}, "train again with train-projector")
    except FileNotFoundError:
        return set()
    return set(table["id"].to_pylist())
