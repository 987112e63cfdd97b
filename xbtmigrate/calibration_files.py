"""Store and read how a mixed gallery is searched, and what re-encoding a point is worth.

Both are learned by `train-projector` and lie in `.xbtmigrate/<migration>/serving/`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import safetensors.numpy
from safetensors import SafetensorError

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import UNSEALED, check_seal, write_atomically
from xbtmigrate.ordering.benefit import BenefitModel, FeatureInputs, Reference
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import BRIDGED_FILE, Fusion
from xbtmigrate.tables import VECTORS, read_parquet, write_parquet
from xbtmigrate.types import Distance, vector_array, vectors_of


def save_calibration(folder: Path, calibration: Calibration) -> None:
    """Store how the mixed gallery is searched."""
    bank, (bridge, forward) = calibration.bank, calibration.projectors
    table = pa.table(
        {
            "id": pa.array(bank.ids, pa.string()),
            "old": vector_array(bank.old),
            "new": vector_array(bank.new),
            "bridged": vector_array(bank.bridged),
        }
    ).replace_schema_metadata(
        {
            # `repr` of a float reads back as the same number.
            "blend": repr(calibration.blend),
            "tuned": json.dumps(dict(calibration.tuned)),
            "bridge": bridge,
            "forward": forward,
        }
    )
    write_parquet(folder / "bank.parquet", table)
    calibration.fusion.save(folder)
    calibration.bridged.save(folder, BRIDGED_FILE)


def load_calibration(folder: Path) -> Calibration | None:
    """Read how the mixed gallery is searched; None if nothing was calibrated."""
    path = folder / "bank.parquet"
    if not path.exists():
        return None
    hint = "calibrate again with train-projector"
    required = {"id": pa.string(), "old": VECTORS, "new": VECTORS}
    table = read_parquet(path, required, hint, optional={"bridged": VECTORS})
    # Of an earlier version, which calibrated other mixtures. A searcher in use must still open.
    if "bridged" not in table.column_names:
        return None
    names = ("old", "new", "bridged")
    try:
        facts = _facts(table)
        bank = Bank(table["id"].to_pylist(), *(vectors_of(table, name) for name in names))
        return Calibration(
            Fusion.load(folder),
            Fusion.load(folder, BRIDGED_FILE),
            float(facts["blend"]),
            bank,
            (facts["bridge"], facts["forward"]),
            json.loads(facts.get("tuned", "{}")),
        )
    except (KeyError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read: {error!r}", hint) from error


def save_benefit(folder: Path, model: BenefitModel) -> None:
    """Store what re-encoding a point is worth."""
    reference, around = model.surroundings.reference, model.surroundings
    table = pa.table(
        {
            "id": pa.array(reference.ids, pa.string()),
            "old": vector_array(reference.old),
            "projected": vector_array(reference.projected),
        }
    ).replace_schema_metadata(
        {
            "forward": model.forward,
            "old_distance": around.old_distance.value,
            "new_distance": around.new_distance.value,
        }
    )
    tensors = {"answers": around.answers} | model.tensors()
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_parquet(folder / "benefit.parquet", table)
    write_atomically(
        folder / "benefit.safetensors",
        lambda path: safetensors.numpy.save_file(plain, path, UNSEALED),
    )


def load_benefit(folder: Path, calibration: Calibration) -> BenefitModel | None:
    """Read what re-encoding a point is worth; None if it was not learned for these parts."""
    path = folder / "benefit.parquet"
    if not path.exists():
        return None
    columns = {"id": pa.string(), "old": VECTORS, "projected": VECTORS}
    hint = "learn it again with train-projector"
    table, weights = read_parquet(path, columns, hint), path.with_suffix(".safetensors")
    try:
        facts = _facts(table)
        # Learned from the errors of another forward projector, it does not apply to this one.
        if facts["forward"] != calibration.projectors[1]:
            return None
        check_seal(weights, hint)
        tensors = safetensors.numpy.load_file(weights)
        around = FeatureInputs(
            calibration,
            tensors["answers"],
            Reference(
                table["id"].to_pylist(),
                vectors_of(table, "old"),
                vectors_of(table, "projected"),
            ),
            Distance(facts["old_distance"]),
            Distance(facts["new_distance"]),
        )
        return BenefitModel.from_tensors(around, tensors, facts["forward"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ArtefactError(f"{weights} cannot be read: {error!r}", hint) from error


def _facts(table: pa.Table) -> dict[str, str]:
    """Return the metadata of a table as text."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
