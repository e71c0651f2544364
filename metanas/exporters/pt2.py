"""The graph of a network as torch.export writes it: a .pt2 file, which runs where torch is, also without Python.

    program = torch.export.load("network.pt2").module()
    scores = program(images)                            # of any batch size

Beside the graph the file holds what architecture.json says, as its extra file `metanas.json`. Nothing in it is pickled:
tensors are raw bytes, the rest is JSON. Stack traces are left out, since they hold the paths of this machine.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from metanas.errors import ExportError
from metanas.exporters.plan import weight_names
from metanas.exporters.precision import HALVES
from metanas.network import Network, module_name
from metanas.network.frozen import Frozen
from metanas.run.atomic import dump_json, parse_json
from metanas.space import Apply

METADATA = "metanas.json"
ADVICE = 'leave "pt2" out of formats'
TRACED_BATCH = 2  # torch.export takes 0 and 1 for constants
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def pt2_bytes(network: Network, facts: object, precision: str = "float32") -> bytes:
    """The file.

    Args:
        network: in evaluation mode, on the CPU.
        facts: plain data, written beside the graph.
        precision: "float16" or "bfloat16": parameters are stored in half, and cast in the graph where they are read.

    Raises:
        ExportError: torch.export cannot trace the network; the message names the operation.
    """
    network = plain_copy(network)
    shapes = [network.shapes[value] for value in network.program.inputs]
    try:
        program = traced(Widened(network, HALVES[precision]) if precision in HALVES else network, shapes)
    except Exception as error:  # whatever a user's operation, or torch's tracer on its way, may raise
        raise ExportError(f"{culprit(network)} cannot be traced by torch.export ({reason(error)}); {ADVICE}") from error
    inside = "network." if precision in HALVES else ""  # a `Widened`
    renamed(program, {inside + name: new for name, new in weight_names(network).items()})
    program.example_inputs = None  # would be pickled
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in TRACES:
                    node.meta.pop(key, None)
    file = io.BytesIO()
    try:
        torch.export.save(program, file, extra_files={METADATA: dump_json(facts)})
    except Exception as error:  # an operator that torch has no words for
        raise ExportError(f"torch.export cannot write the network ({reason(error)}); {ADVICE}") from error
    return file.getvalue()


def read_pt2(path: Path, facts: object) -> Callable[..., Tensor]:
    """What the file computes. Raises ExportError where it does not say `facts`. Only for files of our own making."""
    extra = {METADATA: ""}
    with path.open("rb") as file:
        module = torch.export.load(file, extra_files=extra).module()
    if parse_json(extra[METADATA]) != parse_json(dump_json(facts)):
        raise ExportError(f"pt2: {path.name} does not hold what it should of the network")
    return module


class Widened(nn.Module):
    """A network whose parameters are stored in half, and computed with as they were before."""

    def __init__(self, network: Network, half: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtypes = {name: p.dtype for name, p in network.named_parameters()}
        for parameter in network.parameters():
            parameter.data = parameter.data.to(half)

    def forward(self, *inputs: Tensor) -> Tensor:
        wide = {name: p.to(self.dtypes[name]) for name, p in self.network.named_parameters()}
        outputs: Tensor = torch.func.functional_call(self.network, wide, inputs)
        return outputs


def plain_copy(network: Network) -> Network:
    """A copy whose tensors are contiguous and their own: a file holds whole, plain tensors."""
    network = copy.deepcopy(network)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return network


def traced(module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> torch.export.ExportedProgram:
    """The graph of a module on inputs of these shapes, of any batch size."""
    dtypes = module.dtypes.values() if isinstance(module, Widened) else (p.dtype for p in module.parameters())
    dtype = next(iter(dtypes), torch.float32)
    examples = tuple(torch.zeros(TRACED_BATCH, *shape, dtype=dtype) for shape in shapes)
    batch = torch.export.Dim("batch")
    sizes = tuple({0: batch} for _ in shapes)
    with torch.random.fork_rng(devices=[]):
        return torch.export.export(
            module, examples, dynamic_shapes=(sizes,) if isinstance(module, Network | Widened) else sizes
        )


def renamed(program: torch.export.ExportedProgram, names: dict[str, str]) -> None:
    """Gives weights the names of the safetensors file. Those inside a Network are paths, which need not be Python's."""
    for spec in program.graph_signature.input_specs:
        if spec.target is not None:
            spec.target = names.get(spec.target, spec.target)
    state = dict(program.state_dict)
    program.state_dict.clear()
    program.state_dict.update({names.get(name, name): value for name, value in state.items()})


def culprit(network: Network) -> str:
    """The first operation that cannot be traced alone."""
    for step in network.program.steps:
        if isinstance(step, Apply):
            module = network.get_submodule(module_name(step.out))
            try:
                traced(module, [network.shapes[step.source]])
            except Exception:  # whatever it is, it was found
                own = module.module if isinstance(module, Frozen) else module
                return f"operation {step.op.kind!r} ({step.out}, a {type(own).__name__})"
    return "the network"


def reason(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
