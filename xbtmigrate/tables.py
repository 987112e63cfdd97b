"""Write and read Parquet files: sealed with a digest when written, checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.errors import ArtefactError, XbtMigrateError
from xbtmigrate.files import UNSEALED, check_seal, write_atomically

VECTORS = pa.list_(pa.float32())
"""A column of vectors of one length, as `types.vector_array` makes it."""


def write_parquet(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a sealed Parquet file, atomically.

    Args:
        path: The file.
        table: Its rows; what its schema has of metadata is kept.
        **options: As `pyarrow.parquet.write_table` takes them.
    """
    facts = table.schema.metadata or {}
    sealed = table.replace_schema_metadata({**facts, **UNSEALED})
    write_atomically(path, lambda temporary: pq.write_table(sealed, temporary, **options))


def read_parquet(
    path: Path,
    columns: Mapping[str, pa.DataType],
    hint: str,
    *,
    optional: Mapping[str, pa.DataType] | None = None,
    error: type[XbtMigrateError] = ArtefactError,
) -> pa.Table:
    """Read a Parquet file and check its columns.

    Args:
        path: The file.
        columns: Columns that must be there, without nulls; others are left out.
        hint: What to do where it cannot be used.
        optional: Columns that may be there, and may hold nulls.
        error: What to raise where it cannot be used.

    Returns:
        The columns, in this order and of these types.

    Raises:
        FileNotFoundError: There is no such file.
        XbtMigrateError: It is damaged, or of another shape; of the kind `error`.
    """
    optional = optional or {}
    try:
        check_seal(path, hint, error)
        with pq.ParquetFile(path) as file:
            there = {k: v for k, v in optional.items() if k in file.schema_arrow.names}
            wanted = {**columns, **there}
            table = file.read(columns=list(wanted))
        # Damaged offsets would otherwise crash the process where values are viewed.
        table.validate(full=True)
        arrays = {name: _fitting(table, name, form) for name, form in wanted.items()}
    # Not translated: a missing file is not a damaged one.
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as failure:
        raise error(f"{path} cannot be read: {failure}", hint) from failure
    if empty := [name for name in columns if arrays[name].null_count]:
        raise error(f"{path} cannot be read: its column {empty[0]} has empty rows", hint)
    return pa.table(arrays, metadata=table.schema.metadata)


def _fitting(table: pa.Table, name: str, form: pa.DataType) -> pa.ChunkedArray:
    """Return a column in its required type.

    Raises:
        KeyError, ValueError, pa.ArrowException: It is missing, twice there, or of another type.
    """
    column = table.column(name)
    if form != VECTORS:
        return column.cast(form)
    kind = column.type
    if not (isinstance(kind, pa.FixedSizeListType) and kind.value_type == pa.float32()):
        raise ValueError(f"its column {name} holds {kind}, not vectors")
    # `vectors_of` ignores validity: a missing value would be read as a number.
    if column.combine_chunks().flatten().null_count:
        raise ValueError(f"its column {name} has vectors with empty places")
    return column
