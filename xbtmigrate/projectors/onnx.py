"""Export a projector as an ONNX model, for services in other languages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from xbtmigrate.errors import ArtefactError, UnsupportedError
from xbtmigrate.projectors import Affine, Mlp, Projector
from xbtmigrate.types import Vectors

OPSET, IR_VERSION = 20, 9
"""The first operator set that has GELU; runtimes have it since onnxruntime 1.17."""
INPUT, OUTPUT = "vectors", "projected"
TOLERANCE = 1e-5
"""Largest difference to this package's own result, relative to its largest coordinate."""
SAMPLE = 64


def model_of(projector: Projector) -> ModelProto:
    """Describe a projector as an ONNX model.

    It takes `vectors`, float32 (n, d_in) of any length, and gives `projected`, float32 (n, d_out),
    scaled as `Projector.apply` scales. Its metadata names direction, kind, digest and both models.

    Raises:
        UnsupportedError: The architecture has no ONNX form, or the projector takes side vectors.
    """
    if projector.plain is not None:
        # What the model computes of queries whose words are unknown.
        projector = projector.without_side()
    if projector.d_side:
        raise UnsupportedError(
            f"this {projector.direction} projector takes side vectors, and the model has one input",
            "train it again with new_model.words = false and no qdrant.side_vector, "
            "or export the bridge",
        )
    graph, manifest = _Graph(), projector.manifest
    rows = graph.unit(INPUT) if manifest.normalizes_input else INPUT
    mapped = _mapped(graph, projector, rows)
    # Only gives the result its public name, whichever node made it.
    graph.add("Identity", graph.unit(mapped) if manifest.normalizes_output else mapped, to=OUTPUT)
    ends = [
        # "n" leaves the number of rows to the caller.
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in ((INPUT, projector.d_in), (OUTPUT, projector.d_out))
    ]
    made = helper.make_graph(graph.nodes, "projector", ends[:1], ends[1:], graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="xbtmigrate"
    )
    # Services can check which projector and models they have loaded.
    facts = {
        "direction": str(projector.direction),
        "kind": projector.kind,
        "digest": projector.digest,
        "old_model": manifest.old_model,
        "new_model": manifest.new_model,
    }
    helper.set_model_props(model, facts)
    checker.check_model(model, full_check=True)
    return model


def difference(model: bytes, projector: Projector) -> float:
    """Run an ONNX model on random vectors and a zero, and compare it with the projector.

    Returns:
        Largest difference of a coordinate, relative to the largest coordinate.

    Raises:
        ArtefactError: It is above `TOLERANCE`.
    """
    sample = np.random.default_rng(0).standard_normal((SAMPLE, projector.d_in), np.float32)
    # A zero vector, for which a careless normalisation divides by zero.
    sample[0] = 0
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [made] = session.run([OUTPUT], {INPUT: sample})
    wanted = projector.apply(sample)
    apart = float(np.abs(made - wanted).max() / np.abs(wanted).max(initial=1e-30))
    # Not `>`: a NaN must fail too.
    if not apart <= TOLERANCE:
        raise ArtefactError(
            f"the ONNX model differs from the {projector.direction} projector by {apart:.1e}",
            "nothing was written; upgrade onnx and onnxruntime",
        )
    return apart


@dataclass(frozen=True, slots=True)
class _Graph:
    """Collects nodes and constants; every node has one output."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = to or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Vectors | float) -> str:
        """Add a float32 constant; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.float32), name))
        return name

    def linear(self, x: str, weight: Vectors, bias: Vectors) -> str:
        """Add x W + b."""
        return self.add("Gemm", x, self.constant(weight), self.constant(bias))

    def unit(self, x: str) -> str:
        """Scale rows to unit length; a zero row stays zero."""
        length = self.add("ReduceL2", x, self.axis(), keepdims=1)
        # A zero row is divided by 1, as `normalized` does, and not by 0.
        nothing = self.add("Equal", length, self.constant(0))
        return self.add("Div", x, self.add("Where", nothing, self.constant(1), length))

    # ReduceL2 takes its axes as an input, no longer as an attribute, since operator set 18.
    def axis(self) -> str:
        """Add the axis along which rows are summed up; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array([1], np.int64), name))
        return name


def _mapped(graph: _Graph, projector: Projector, rows: str) -> str:
    architecture = projector.architecture
    if isinstance(architecture, Affine):
        return graph.linear(rows, architecture.weight, architecture.bias)
    if isinstance(architecture, Mlp):
        *hidden, (weight, bias) = zip(architecture.weights, architecture.biases, strict=True)
        x = rows
        for layer in hidden:
            x = graph.add("Gelu", graph.linear(x, *layer), approximate="tanh")
        # Gemm adds its third input, so the skip needs no node to be added by.
        skip = graph.linear(rows, architecture.skip, bias)
        return graph.add("Gemm", x, graph.constant(weight), skip)
    raise UnsupportedError(
        f"a projector of architecture '{architecture.name}' has no ONNX form",
        "serve it from Python, or with `xbtmigrate serve`",
    )
