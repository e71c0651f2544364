"""The graph of a network as ONNX: what runs where there is neither torch nor Python.

    session = onnxruntime.InferenceSession("network.onnx")
    scores, = session.run(None, {"images": batch})           # of any batch size

The graph is the one that torch.export traces, translated and simplified by torch.onnx (a batch norm is folded into the
convolution before it). Weights keep the names of the safetensors file; what architecture.json says is in the file's
metadata, a JSON text for each key. Traces of this machine are taken out.

Weights of 16 bits are stored so and cast to float32 where they are read; 8 bits are onnxruntime's dynamic quantisation.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metanas import __version__
from metanas.errors import ExportError, MissingDependencyError
from metanas.exporters.comparing import EXAMPLES, TOLERANCE, expected_outputs
from metanas.exporters.draft import Draft
from metanas.exporters.loss import loss_of, random_batch, relative
from metanas.exporters.plan import weight_names
from metanas.exporters.precision import HALVES
from metanas.exporters.pt2 import culprit, plain_copy, reason, renamed, traced
from metanas.network import OPS, Network, module_name
from metanas.run.atomic import dump_json, parse_json
from metanas.space import Apply

if TYPE_CHECKING:  # the extra may not be installed
    from onnx import GraphProto, ModelProto, TensorProto

OPSET = 20
"""The first that has GELU; onnxruntime reads it since 1.17."""
OUTPUT = "scores"
INPUTS = {3: "images", 2: "sequences", 1: "rows"}
"""Axes of an example -> what a batch of them is called; further inputs get a number."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = 'pip install "metanas[onnx]"'
ADVICE = 'leave "onnx" out of formats'
NO_MAPPING = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.:]+)', overload='(\w+)'\)>")


def require_onnx() -> None:
    """Raises MissingDependencyError, with the pip command, where a package of the extra is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f'format "onnx" needs {", ".join(missing)}: {INSTALL}')


def onnx_bytes(draft: Draft) -> bytes:
    """The file. What a reduced one loses is put into `draft.losses`.

    Raises:
        ExportError: an operation that cannot be traced or has no counterpart in ONNX, which the message names; or a
            graph that does not compute what the network does.
        MissingDependencyError: a package of the extra is missing.
    """
    require_onnx()
    others = {str(p.dtype) for p in draft.network.parameters() if p.dtype != torch.float32}
    if others:
        raise ExportError(f"onnxruntime computes in float32, and weights are {', '.join(sorted(others))}; {ADVICE}")
    with _quiet():
        model = _translated(draft.network)
        _tidied(model, draft)
        if draft.reduced:
            model = _reduced(model, draft)
        for key, value in draft.facts(draft.losses.get("onnx")).items():
            model.metadata_props.add(key=key, value=dump_json(value))
        _checked(model)
    data: bytes = model.SerializeToString()
    return data


def _reduced(model: ModelProto, draft: Draft) -> ModelProto:
    """The model with fewer bits, after a look at what it computes with all of them."""
    whole = _callable(model.SerializeToString())(*random_batch(draft.network, EXAMPLES))
    difference = relative(expected_outputs(draft.network, EXAMPLES), whole)
    if not difference <= TOLERANCE:
        raise ExportError(f"the graph's outputs differ by {difference:.2e} before weights are reduced; {ADVICE}")
    model = _quantised(model) if draft.precision == "int8" else _halved(model, draft.precision)
    reduced = _callable(model.SerializeToString())
    draft.losses["onnx"] = loss_of(draft.network, reduced, f"onnx, {draft.precision}", draft.measure)
    return model


def _checked(model: ModelProto) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError and InferenceError share no class of onnx's own
        raise ExportError(f"onnx finds the graph wrong ({reason(error)}); {ADVICE}") from error


def read_onnx(path: Path, draft: Draft) -> Callable[..., Tensor]:
    """What the file computes, by onnxruntime. Raises ExportError where it does not say what it should."""
    import onnx

    data = path.read_bytes()
    found = {entry.key: parse_json(entry.value) for entry in onnx.load_from_string(data).metadata_props}
    if found != parse_json(dump_json(draft.facts(draft.losses.get("onnx")))):
        raise ExportError(f"onnx: {path.name} does not hold what it should of the network")
    return _callable(data)


def _callable(data: bytes) -> Callable[..., Tensor]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of errors for each status, none of them public
        raise ExportError(f"onnx: onnxruntime cannot load the file ({reason(error)}); {ADVICE}") from error
    names = [put.name for put in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        given = {name: x.detach().cpu().numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


def _translated(network: Network) -> ModelProto:
    network = plain_copy(network)
    shapes = [network.shapes[value] for value in network.program.inputs]
    try:
        program = traced(network, shapes)
    except Exception as error:  # whatever a user's operation, or torch's tracer on its way, may raise
        raise ExportError(f"{culprit(network)} cannot be traced by torch.export ({reason(error)}); {ADVICE}") from error
    renamed(program, weight_names(network))
    try:
        return _exported(program, input_names(shapes))
    except Exception as error:  # torch wraps what went wrong in errors of its own, which are not public
        raise ExportError(f"{_unmapped(network, error)}; {ADVICE}") from error


def _exported(program: torch.export.ExportedProgram, names: list[str]) -> ModelProto:
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        external_data=False,
        opset_version=OPSET,
        input_names=names,
        output_names=[OUTPUT],
    )
    assert made is not None
    model: ModelProto = made.model_proto
    return model


def input_names(shapes: list[tuple[int, ...]]) -> list[str]:
    """What the inputs are called.

    >>> input_names([(3, 32, 32)]), input_names([(7,), (7,)])
    (['images'], ['rows', 'rows2'])
    """
    names = [INPUTS.get(len(shape), "inputs") for shape in shapes]
    return [f"{name}{k + 1}" if k else name for k, name in enumerate(names)]


def _unmapped(network: Network, error: BaseException) -> str:
    """What cannot be said in ONNX: torch's operator, and the operation of the network that uses it."""
    cause: BaseException | None = error
    while cause is not None:
        found = NO_MAPPING.search(str(cause))
        if found:
            operator = ".".join(found.groups()).removesuffix(".default")
            return f"{_user(network)} uses {operator}, which has no mapping to ONNX"
        cause = cause.__cause__ or cause.__context__
    return f"torch.onnx cannot translate {_user(network)} ({reason(error)})"


def _user(network: Network) -> str:
    """The first operation that cannot be translated alone; the user's own are tried first."""
    steps = [step for step in network.program.steps if isinstance(step, Apply)]
    for step in sorted(steps, key=lambda step: step.op.kind in OPS):
        module = network.get_submodule(module_name(step.out))
        try:
            _exported(traced(module, [network.shapes[step.source]]), ["x"])
        except Exception:  # whatever it is, it was found
            return f"operation {step.op.kind!r} ({step.out}, a {type(module).__name__})"
    return "the network"


def _tidied(model: ModelProto, draft: Draft) -> None:
    """Takes out what torch wrote about this machine; the batch dimension is called "batch"."""
    from onnx import helper

    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for holder in (model, graph, *_parts(graph), *(part for f in model.functions for part in (f, *f.node))):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", size.dim_param)
    graph.name = draft.name
    model.producer_name, model.producer_version = "metanas", __version__
    helper.set_model_props(model, {})


def _parts(graph: GraphProto) -> Iterator[Any]:
    yield from (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _parts(inner)


def _halved(model: ModelProto, precision: str) -> ModelProto:
    """Weights in half, each cast to float32 where it is read. Statistics of a norm are not weights."""
    from onnx import TensorProto, helper, numpy_helper

    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[precision]
    graph, casts = model.graph, []
    statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in statistics or not tensor.dims:
            continue
        name, values = tensor.name, torch.from_numpy(numpy_helper.to_array(tensor).copy())
        half = values.to(HALVES[precision])
        tensor.CopyFrom(_raw(f"{name}.{precision}", kind, half))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return model


def _raw(name: str, kind: int, values: Tensor) -> TensorProto:
    from onnx import helper

    data = values.contiguous().view(torch.int16).numpy().astype("<i2").tobytes()
    return helper.make_tensor(name, kind, list(values.shape), data, raw=True)


def _quantised(model: ModelProto) -> ModelProto:
    """Linear maps and convolutions in 8 bits; inputs are scaled batch by batch, so nothing has to be calibrated."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = ["MatMul", "Gemm", "Conv"]  # onnxruntime has convolutions of unsigned weights only
    with tempfile.TemporaryDirectory(prefix="metanas-") as folder:
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            copy.deepcopy(model), path, per_channel=True, weight_type=QuantType.QUInt8, op_types_to_quantize=kinds
        )
        made: ModelProto = onnx.load(path)
    made.ClearField("metadata_props")
    made.graph.name, made.producer_name, made.producer_version = model.graph.name, "metanas", __version__
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What torch.onnx and onnxruntime say of themselves on every call, and of packages that nobody asked for."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level

    def of_others(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Please consider to run pre-processing before quantization")

    registry.setLevel(logging.ERROR)
    logging.root.addFilter(of_others)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        registry.setLevel(level)
        logging.root.removeFilter(of_others)
