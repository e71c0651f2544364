"""What one operation of a derived network becomes in the written file: a class that a person would write, a module of
torch, or an expression.

    preact_conv, kernel 3, norm   ReLUConvBN(16, 16, kernel=3)                     and the class ReLUConvBN
    avg_pool, kernel 3            nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    last                          x[:, -1]

The numbers of channels are kept apart from the text, so that the same cell at several widths becomes one class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from metanas.errors import ExportError
from metanas.exporters.templates import Block
from metanas.network.blocks import Phase, SqueezeExcite, activation
from metanas.network.ops import OPS, Shape, width_of
from metanas.network.tokens import Attention, Patches
from metanas.space import Op


@dataclass(frozen=True)
class Part:
    """What one operation becomes.

    call:       makes the module; `{0}`, `{1}` stand for `widths`; empty where no module is needed
    widths:     numbers of channels, and others by which uses of one cell may differ
    use:        the value: `{module}` is the module, `{x}` the value it is applied to
    block:      the class that `call` needs
    names:      (beginning of a parameter's name in the source, beginning in the file); the first that fits counts
    """

    call: str = ""
    widths: tuple[int, ...] = ()
    use: str = "{module}({x})"
    block: Block | None = None
    names: tuple[tuple[str, str], ...] = (("", ""),)

    def renamed(self, name: str) -> str:
        """The name in the file of a parameter that is called `name` in the source."""
        for before, after in self.names:
            if name.startswith(before):
                return after + name.removeprefix(before)
        return name


def part(op: Op, shape: Shape, phase: Phase, module: nn.Module) -> Part:
    """What `op` on a value of `shape` (without the batch) becomes. Raises ExportError for a user's own operation."""
    kind = op.kind
    if kind not in OPS:
        raise ExportError(
            f"operation {kind!r} is not one of metanas's own, so it cannot be written as Python; "
            'leave "python" out of formats ("safetensors" and "pt2" hold it)'
        )
    with torch.device("meta"):
        expected = OPS[kind](op, shape, phase)
    if repr(module) != repr(expected):
        raise ExportError(
            f"operation {kind!r} was replaced by one of your own ({type(module).__name__}), so it cannot be written as "
            'Python; leave "python" out of formats, or give it another name'
        )
    return _PARTS[kind](op, shape, module)


def _normed(module: nn.Module) -> str:
    """How the norm of a module is made beyond its width: " " plain, "" none."""
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm1d | nn.BatchNorm2d):
            facts = ["" if inner.affine else ", affine=False"]
            facts.append("" if inner.track_running_stats else ", track_running_stats=False")
            return "".join(facts) or " "
    return ""


def _biased(module: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.bias is not None for m in module.modules())


def _options(op: Op, *names: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, getattr(op, name)) for name in names if getattr(op, name) != 1)


def _class(
    kind: str, op: Op, shape: Shape, module: nn.Module, *names: tuple[str, str], options: tuple[str, ...] = ()
) -> Part:
    """A part with a class of its own: `Class(channels, width, kernel=3, stride=2)`."""
    given = _options(op, *options)
    bias = _biased(module) and kind != "reduce"
    block = Block(kind, _normed(module), op.activation, bias, int(op.option("repeat", 1)), tuple(n for n, _ in given))
    kernel = "" if kind in ("reduce", "classifier") else f", kernel={op.kernel}"
    text = "".join(f", {name}={value}" for name, value in given)
    call = f"{block.name}({{0}}, {{1}}{kernel}{text})"
    return Part(call, (shape[0], width_of(op, shape)), block=block, names=names)


def _conv(op: Op, shape: Shape, module: nn.Module) -> Part:
    normed = _normed(module)
    if not normed and not op.activation:
        return _plain_conv(op, shape, module)
    names = (("0.", "conv."), ("1.", "norm."))
    return _class("conv", op, shape, module, *names, options=("stride", "dilation", "groups"))


def _plain_conv(op: Op, shape: Shape, module: nn.Module) -> Part:
    padding = op.dilation * (op.kernel - 1) // 2
    facts = [("stride", op.stride, 1), ("padding", padding, 0), ("dilation", op.dilation, 1), ("groups", op.groups, 1)]
    text = "".join(f", {name}={value}" for name, value, default in facts if value != default)
    text += "" if _biased(module) else ", bias=False"
    return Part(f"nn.Conv2d({{0}}, {{1}}, {op.kernel}{text})", (shape[0], width_of(op, shape)), names=(("0.", ""),))


def _preact(op: Op, shape: Shape, module: nn.Module) -> Part:
    names = (("1.", "conv."), ("2.", "norm."))
    return _class("preact_conv", op, shape, module, *names, options=("stride", "dilation", "groups"))


def _separable(op: Op, shape: Shape, module: nn.Module) -> Part:
    repeat = int(op.option("repeat", 1))
    each = 4 if _normed(module) else 3
    names = []
    for k in range(repeat):
        number = str(k + 1) if repeat > 1 else ""
        for at, word in ((1, "depthwise"), (2, "pointwise"), (3, "norm")):
            names.append((f"{k * each + at}.", f"{word}{number}."))
    return _class("separable", op, shape, module, *names, options=("stride", "dilation"))


def _residual(op: Op, shape: Shape, module: nn.Module) -> Part:
    second = 4 if _normed(module) else 3
    names = [("body.1.", "conv1."), (f"body.{second}.", "conv2."), ("shortcut.1.", "project.")]
    names += [("body.2.", "norm1."), ("body.5.", "norm2.")]
    return _class("residual", op, shape, module, *names, options=("stride", "dilation", "groups"))


def _reduce(op: Op, shape: Shape, module: nn.Module) -> Part:
    return _class("reduce", op, shape, module, ("norm.0.", "norm."))


def _classifier(op: Op, shape: Shape, module: nn.Module) -> Part:
    assert isinstance(module, nn.Sequential)
    names = [(f"{len(module) - 1}.", "linear.")]
    return _class("classifier", op, shape, module, *names, ("0.", "norm."))


def _elastic(op: Op, shape: Shape, module: nn.Module) -> Part:
    tracked = " " if getattr(module, "mean", None) is not None else ""
    given = _options(op, "stride", "dilation")
    block = Block(op.kind, tracked, op.activation or "relu", used=tuple(name for name, _ in given))
    widths = (shape[0], width_of(op, shape)) if op.kind == "elastic_conv" else (shape[0],)
    places = ", ".join(f"{{{k}}}" for k in range(len(widths)))
    text = "".join(f", {name}={value}" for name, value in given)
    return Part(f"{block.name}({places}, kernel={op.kernel}{text})", widths, block=block)


def _squeeze_excite(op: Op, shape: Shape, module: nn.Module) -> Part:
    assert isinstance(module, SqueezeExcite)
    block = Block("squeeze_excite")
    return Part(f"{block.name}({{0}}, {{1}})", (shape[0], module.down.out_features), block=block)


def _patches(op: Op, shape: Shape, module: nn.Module) -> Part:
    assert isinstance(module, Patches)
    count, width = module.position.shape
    call = f"Patches({{0}}, {{1}}, patch={op.kernel}, count={count})"
    names = (("weight", "conv.weight"), ("bias", "conv.bias"), ("", ""))
    return Part(call, (shape[0], width), block=Block("patches"), names=names)


def _attention(op: Op, shape: Shape, module: nn.Module) -> Part:
    assert isinstance(module, Attention)
    widths = (shape[1], module.query.out_features)
    return Part(f"Attention({{0}}, {{1}}, head={module.head})", widths, block=Block("attention"))


def _sequence(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part(use={3: "{x}.transpose(1, 2).flatten(2)", 2: "{x}", 1: "{x}.unsqueeze(2)"}[len(shape)])


def _highway(op: Op, shape: Shape, module: nn.Module) -> Part:
    block = Block("highway", activation=op.activation)
    return Part(f"{block.name}({{0}}, {{1}})", (shape[0], width_of(op, shape)), block=block)


def _pool(op: Op, shape: Shape, module: nn.Module) -> Part:
    numbers = f"{op.kernel}, {op.stride}, {(op.kernel - 1) // 2}"
    call = f"nn.MaxPool2d({numbers})" if op.kind == "max_pool" else f"nn.AvgPool2d({numbers}, count_include_pad=False)"
    normed = _normed(module)
    if not normed:
        return Part(call)
    return Part(f"nn.Sequential({call}, nn.BatchNorm2d({{0}}{normed.strip()}))", (shape[0],))


def _linear(op: Op, shape: Shape, module: nn.Module) -> Part:
    widths = (shape[-1], op.width if isinstance(op.width, int) else shape[-1])
    if not op.activation:
        return Part("nn.Linear({0}, {1})", widths, names=(("0.", ""),))
    assert isinstance(module, nn.Sequential)
    return Part(f"nn.Sequential(nn.Linear({{0}}, {{1}}), nn.{type(module[1]).__name__}())", widths)


def _elastic_linear(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part("nn.Linear({0}, {1})", (shape[-1], op.width if isinstance(op.width, int) else shape[-1]))


def _norm(op: Op, shape: Shape, module: nn.Module) -> Part:
    facts = _normed(module)
    calls = [f"nn.BatchNorm{1 if len(shape) == 1 else 2}d({{0}}{facts.strip()})"] if facts else []
    calls += [f"nn.{type(activation(op.activation)).__name__}()"] if op.activation else []
    if not calls:
        return Part(use="{x}")
    call = calls[0] if len(calls) == 1 else f"nn.Sequential({', '.join(calls)})"
    return Part(call, (shape[0],) if facts else ())


def _none(op: Op, shape: Shape, module: nn.Module) -> Part:
    width = width_of(op, shape)
    if width == shape[0] and op.stride == 1:
        return Part(use="torch.zeros_like({x})")
    return Part(use=f"zeros({{x}}, {{0}}, {op.stride})", widths=(width,), block=Block("zeros"))


def _skip(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part(use="{x}") if op.stride == 1 else _reduce(op, shape, module)


def _narrow(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part(use="{x}[:, :{0}]", widths=(width_of(op, shape),))


def _noise(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part(f"Noise(stride={op.stride}, stream={{0}})", (int(op.option("stream", 0)),), block=Block("noise"))


def _of_graph(op: Op, shape: Shape, module: nn.Module) -> Part:
    return Part(use=f"{op.kind}({{x}})", block=Block(op.kind))


def _rest(op: Op, shape: Shape, module: nn.Module) -> Part:
    last = f"{{x}}[:, -{width_of(op, shape)}:]"
    return (
        Part(use=last)
        if op.stride == 1
        else Part(f"nn.MaxPool2d({op.stride}, ceil_mode=True)", use=f"{{module}}({last})")
    )


_PARTS: Mapping[str, Callable[[Op, Shape, nn.Module], Part]] = {
    "none": _none,
    "skip": _skip,
    "conv": _conv,
    "preact_conv": _preact,
    "separable": _separable,
    "avg_pool": _pool,
    "max_pool": _pool,
    "factorized_reduce": _reduce,
    "residual": _residual,
    "classifier": _classifier,
    "elastic_conv": _elastic,
    "elastic_depthwise": _elastic,
    "squeeze_excite": _squeeze_excite,
    "narrow": _narrow,
    "rest": _rest,
    "shuffle": lambda op, shape, module: Part(f"nn.ChannelShuffle({op.groups})"),
    "elastic_linear": _elastic_linear,
    "norm": _norm,
    "linear": _linear,
    "activation": lambda op, shape, module: Part(f"nn.{type(module).__name__}()"),
    "flatten": lambda op, shape, module: Part(use="{x}.flatten(1)"),
    "patches": _patches,
    "attention": _attention,
    "token_norm": lambda op, shape, module: Part("nn.LayerNorm({0})", (shape[1],)),
    "token_mean": lambda op, shape, module: Part(use="{x}.mean(1)"),
    "sequence": _sequence,
    "highway": _highway,
    "token_conv": lambda op, shape, module: Part(
        f"TimeConv({{0}}, kernel={op.kernel})", (shape[1],), block=Block("token_conv")
    ),
    "token_mix": lambda op, shape, module: Part(f"TimeLinear({shape[0]})", block=Block("token_mix")),
    "position": lambda op, shape, module: Part(f"Position({shape[0]}, {{0}})", (shape[1],), block=Block("position")),
    "embedding": lambda op, shape, module: Part(
        f"Embedding({int(op.option('vocabulary', 0))}, {{0}})", (width_of(op, shape),), block=Block("embedding")
    ),
    "last": lambda op, shape, module: Part(use="{x}[:, -1]"),
    "node_features": lambda op, shape, module: Part(use=f"{{x}}[:, :, :{shape[1] - shape[0]}]"),
    **{kind: _of_graph for kind in ("graph_sum", "graph_mean", "graph_max", "nodes_sum", "nodes_mean", "nodes_max")},
    "graph_attention": lambda op, shape, module: Part(
        "GraphAttention({0})", (shape[1],), block=Block("graph_attention")
    ),
    "noise": _noise,
}
"""Kind of operation -> what it becomes; a test holds it to `metanas.network.OPS`."""
