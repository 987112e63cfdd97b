"""List the documents by the command that prints them, and make the JSON Schema of each."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import get_original_bases, is_typeddict

from xbtmigrate.documents.backfill import BackfillDocument, IntentDocument
from xbtmigrate.documents.cutover import (
    AbortDocument,
    CutoverDocument,
    FinalizeDocument,
    RollbackDocument,
)
from xbtmigrate.documents.error import DryRunDocument, ErrorDocument
from xbtmigrate.documents.evaluate import EvaluateDocument
from xbtmigrate.documents.many import ManyDocument
from xbtmigrate.documents.operate import DemoDocument, DoctorDocument
from xbtmigrate.documents.plan import (
    BenchDocument,
    ExportTextsDocument,
    InitDocument,
    MakeQueriesDocument,
    PlanDocument,
)
from xbtmigrate.documents.progress import NoteEvent, ProgressEvent
from xbtmigrate.documents.serve import ExportDocument, PublishDocument
from xbtmigrate.documents.status import ControlDocument, StatusDocument
from xbtmigrate.documents.train import TrainDocument
from xbtmigrate.documents.verify import StoppedVerifyDocument, VerifyDocument
from xbtmigrate.migration.switch import Switch

DOCUMENTS: dict[str, Any] = {
    "error": ErrorDocument,
    "dry run": DryRunDocument,
    "init": InitDocument,
    "export-texts": ExportTextsDocument,
    "make-queries": MakeQueriesDocument,
    "plan": PlanDocument,
    "train-projector": TrainDocument,
    "backfill": IntentDocument,
    "backfill --online": BackfillDocument,
    "pause": ControlDocument,
    "resume": ControlDocument,
    "throttle": ControlDocument,
    "status": StatusDocument,
    "verify": VerifyDocument,
    "verify (stopped)": StoppedVerifyDocument,
    "cutover": CutoverDocument,
    "rollback": RollbackDocument,
    "finalize": FinalizeDocument,
    "abort": AbortDocument,
    "doctor": DoctorDocument,
    "evaluate": EvaluateDocument,
    "publish": PublishDocument,
    "export-onnx": ExportDocument,
    "switch.json": Switch,
    "bench": BenchDocument,
    "demo": DemoDocument,
    "many collections": ManyDocument,
    "progress event": ProgressEvent,
    "note event": NoteEvent,
}
"""Command, or name of another document -> its type."""


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a document.

    Args:
        name: A key of `DOCUMENTS`.
    """
    schema = TypeAdapter(DOCUMENTS[name]).json_schema(
        mode="serialization", schema_generator=_Described
    )
    return {"$schema": _Described.schema_dialect, **schema}


class _Described(GenerateJsonSchema):
    """Takes the descriptions of keys from the docstrings below the attributes."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _described(super().typed_dict_schema(schema), schema["cls"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _described(super().model_schema(schema), schema["cls"])

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002, FBT001
        # Defaults are for reading older files; what is printed has every key.
        return True


def _described(schema: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    # A later version may add keys, and readers ignore what is new to them.
    schema.pop("additionalProperties", None)
    schema["description"] = inspect.getdoc(kind)
    texts = _docstrings(kind)
    for name, part in schema["properties"].items():
        if name in texts:
            part["description"] = texts[name]
    return schema


def _docstrings(kind: type) -> dict[str, str]:
    """Return the docstring below each attribute of a class, those of its bases first."""
    found: dict[str, str] = {}
    # A TypedDict has no bases at run time, only the ones that it was written with.
    for base in get_original_bases(kind):
        if is_typeddict(base) or (inspect.isclass(base) and issubclass(base, BaseModel)):
            found |= _docstrings(base)
    try:
        source = inspect.getsource(kind)
    except OSError:  # made by a call, for keys such as recall@10; described in its annotations
        return found
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found
