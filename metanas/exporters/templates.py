"""The classes of the written file, one for each kind of block that a network uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from metanas.exporters.code import bracketed
from metanas.exporters.texts import CALLED, TEXTS

CALLS = {
    "": "{}",
    "identity": "{}",
    "relu": "F.relu({})",
    "tanh": "torch.tanh({})",
    "sigmoid": "torch.sigmoid({})",
    "gelu": "F.gelu({})",
    "silu": "F.silu({})",
    "softplus": "F.softplus({})",
}
WORDS = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "GELU", "silu": "SiLU", "softplus": "Softplus"}
REPEATED = {1: "SepConv", 2: "DoubleSepConv", 3: "TripleSepConv"}


@dataclass(frozen=True)
class Block:
    """A class of the written file.

    norm:  "" none, " " a plain one, else further arguments of the norm
    used:  options (stride, dilation, groups) that some use of it gives; they do not tell two blocks apart
    """

    kind: str
    norm: str = ""
    activation: str = ""
    bias: bool = False
    repeat: int = 1
    used: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """The name that it asks for: ReLUConvBN, Residual, ..."""
        word, normed = WORDS.get(self.activation, ""), "BN" if self.norm else ""
        match self.kind:
            case "conv":
                return f"Conv{normed}{word}"
            case "preact_conv":
                return f"{word}Conv{normed}"
            case "separable":
                return f"{word}{REPEATED.get(self.repeat, f'SepConv{self.repeat}x')}{normed}"
            case "elastic_conv":
                return f"ConvNorm{word}"
            case "elastic_depthwise":
                return f"DepthwiseNorm{word}"
            case "highway":
                return f"{word}Highway"
            case "zeros":
                return "zeros"
        return NAMES[self.kind]

    def lines(self, name: str, used: frozenset[str]) -> list[str]:
        """The definition, under `name`, with a parameter for every option in `used`."""
        if self.kind in FIXED:
            return FIXED[self.kind].format(name=name).strip("\n").splitlines()
        return {
            "highway": _highway,
            "elastic_conv": _elastic,
            "elastic_depthwise": _elastic,
            "conv": _conv,
            "preact_conv": _conv,
            "separable": _separable,
            "residual": _residual,
            "reduce": _reduce,
            "classifier": _classifier,
        }[self.kind](self, name, used)

    def normed(self, target: str, width: str) -> list[str]:
        """The line that makes the norm, if there is one."""
        return [f"        self.{target} = nn.BatchNorm2d({width}{self.norm.rstrip()})"] if self.norm else []

    def act(self, value: str) -> str:
        return CALLS[self.activation].format(value)

    def then_norm(self, norm: str, value: str) -> str:
        return f"self.{norm}({value})" if self.norm else value


def _head(
    name: str, doc: str, parameters: list[str], body: list[str], forward: list[str], buffers: tuple[str, ...] = ()
) -> list[str]:
    """A class of images. `buffers`: names that a type checker could not know to be tensors."""
    return [
        f"class {name}(nn.Module):",
        f'    """{doc}"""',
        "",
        *(f"    {buffer}: Tensor" for buffer in buffers),
        *([""] if buffers else []),
        *bracketed("def __init__", ["self", *parameters], indent=4, tail=" -> None:"),
        "        super().__init__()",
        *body,
        "",
        "    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, height, width)",
        *(f"        {line}" for line in forward),
    ]


def _kernel(used: frozenset[str]) -> tuple[list[str], str]:
    """The parameters after the widths, and the padding that keeps the size at stride 1."""
    options = [f"{option}: int = 1" for option in ("stride", "dilation", "groups") if option in used]
    padding = "dilation * (kernel - 1) // 2" if "dilation" in used else "(kernel - 1) // 2"
    return ["channels: int", "width: int", "kernel: int", *options], f"        padding = {padding}"


def _conv2d(target: str, used: frozenset[str], inputs: str, outputs: str, *facts: str) -> list[str]:
    given = [f"{option}={option}" for option in ("stride", "dilation", "groups") if option in used]
    arguments = [inputs, outputs, "kernel", *given[:1], "padding=padding", *given[1:], *facts]
    if given and given[0] != "stride=stride":
        arguments = [inputs, outputs, "kernel", "padding=padding", *given, *facts]
    return bracketed(f"self.{target} = nn.Conv2d", arguments, indent=8)


def _doc(block: Block, *words: str) -> str:
    """The words as a sentence: what the block does, in order; "act" and "norm" where it has them."""
    act, normed = WORDS.get(block.activation, ""), "batch norm" if block.norm else ""
    kept = [{"act": act, "norm": normed}.get(word, word) for word in words]
    text = ", ".join(word for word in kept if word)
    return text[0].upper() + text[1:] + "."


def _conv(block: Block, name: str, used: frozenset[str]) -> list[str]:
    parameters, padding = _kernel(used)
    bias = () if block.bias else ("bias=False",)
    body = [padding, *_conv2d("conv", used, "channels", "width", *bias), *block.normed("norm", "width")]
    if block.kind == "conv":
        doc = _doc(block, "convolution", "norm", "act")
        return _head(name, doc, parameters, body, [f"return {block.act(block.then_norm('norm', 'self.conv(x)'))}"])
    doc = _doc(block, "act", "convolution", "norm")
    forward = ["return " + block.then_norm("norm", f"self.conv({block.act('x')})")]
    return _head(name, doc, parameters, body, forward)


def _separable(block: Block, name: str, used: frozenset[str]) -> list[str]:
    parameters, padding = _kernel(used - {"groups"})
    body, forward = [padding], []
    for k in range(block.repeat):
        last = k == block.repeat - 1
        number = str(k + 1) if block.repeat > 1 else ""
        out = "width" if last else "channels"
        options = (used - {"groups"}) if k == 0 else used & {"dilation"}
        body += _conv2d(f"depthwise{number}", options, "channels", "channels", "groups=channels", "bias=False")
        body.append(f"        self.pointwise{number} = nn.Conv2d(channels, {out}, 1, bias=False)")
        body += block.normed(f"norm{number}", out)
        forward.append(f"x = self.pointwise{number}(self.depthwise{number}({block.act('x')}))")
        if block.norm:
            forward.append(f"x = self.norm{number}(x)")
    forward[-1] = forward[-1].replace("x = ", "return ", 1)
    times = {1: "", 2: " Twice.", 3: " Three times."}.get(block.repeat, f" {block.repeat} times.")
    doc = _doc(block, "act", "depthwise and pointwise convolution", "norm")
    return _head(name, doc + times, parameters, body, forward)


def _residual(block: Block, name: str, used: frozenset[str]) -> list[str]:
    parameters, padding = _kernel(used)
    bias = () if block.bias else ("bias=False",)
    pool = "self.pool = nn.AvgPool2d(stride, ceil_mode=True)" if "stride" in used else ""
    body = [
        padding,
        *_conv2d("conv1", used, "channels", "width", *bias),
        *block.normed("norm1", "width"),
        *_conv2d("conv2", used - {"stride"}, "width", "width", *bias),
        *block.normed("norm2", "width"),
        *([f"        {pool}"] if pool else []),
        "        self.project = nn.Conv2d(channels, width, 1, bias=False)",
    ]
    forward = [
        "y = " + block.then_norm("norm1", f"self.conv1({block.act('x')})"),
        "y = " + block.then_norm("norm2", f"self.conv2({block.act('y')})"),
        f"return y + self.project({'self.pool(x)' if pool else 'x'})",
    ]
    beside = "a pooled 1x1 convolution" if pool else "a 1x1 convolution"
    return _head(name, f"Two pre-activated convolutions beside {beside}.", parameters, body, forward)


def _reduce(block: Block, name: str, used: frozenset[str]) -> list[str]:
    body = [
        "        half = width // 2",
        "        self.even = nn.Conv2d(channels, half, 1, stride=2, bias=False)",
        "        self.odd = nn.Conv2d(channels, width - half, 1, stride=2, bias=False)",
        *block.normed("norm", "width"),
    ]
    forward = [
        "x = F.relu(x)",
        "shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]",
        f"return {block.then_norm('norm', 'torch.cat([self.even(x), self.odd(shifted)], dim=1)')}",
    ]
    doc = "Halves height and width: two 1x1 convolutions, one of them a pixel aside."
    return _head(name, doc, ["channels: int", "width: int"], body, forward)


def _classifier(block: Block, name: str, used: frozenset[str]) -> list[str]:
    body = [*block.normed("norm", "channels"), "        self.linear = nn.Linear(channels, width)"]
    value = block.act(block.then_norm("norm", "x"))
    forward = [*([f"x = {value}"] if value != "x" else [])]
    forward += ["x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (batch, channels)", "return self.linear(x)"]
    doc = _doc(block, "norm", "act", "mean over all positions", "linear")
    return _head(name, doc, ["channels: int", "width: int"], body, forward)


def _elastic(block: Block, name: str, used: frozenset[str]) -> list[str]:
    tracked, depthwise = bool(block.norm), block.kind == "elastic_depthwise"
    parameters, padding = _kernel(used)
    stride, dilated = "stride" if "stride" in used else "1", "dilation" in used
    kept = [
        '        self.register_buffer("mean", torch.zeros(width))',
        '        self.register_buffer("variance", torch.ones(width))',
    ]
    body = [
        f"        self.stride, self.padding = {stride}, {padding.partition(' = ')[2]}",
        *(["        self.dilation = dilation"] if dilated else []),
        f"        self.weight = nn.Parameter(torch.empty(width, {1 if depthwise else 'channels'}, kernel, kernel))",
        "        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d does",
        "        self.scale = nn.Parameter(torch.ones(width))",
        "        self.shift = nn.Parameter(torch.zeros(width))",
        *(kept if tracked else []),
    ]
    options = ["stride=self.stride", "padding=self.padding", *(["dilation=self.dilation"] if dilated else [])]
    options += ["groups=len(self.weight)"] if depthwise else []
    statistics = "self.mean, self.variance" if tracked else "None, None"
    now = "self.training" if tracked else "True"
    forward = [
        *bracketed("x = F.conv2d", ["x", "self.weight", *options], indent=8),
        *bracketed("x = F.batch_norm", ["x", statistics, "self.scale", "self.shift", now], indent=8),
        f"return {block.act('x')}",
    ]
    forward = [line.removeprefix("        ") for line in forward]
    buffers = ("mean", "variance") if tracked else ()
    parameters = parameters[1:] if depthwise else parameters
    doc = _doc(block, "depthwise convolution" if depthwise else "convolution", "batch norm", "act")
    return _head(name, doc, parameters, body, forward, buffers)


def _highway(block: Block, name: str, used: frozenset[str]) -> list[str]:
    return [
        f"class {name}(nn.Module):",
        '    """A gate between the beginning of x and a function of it."""',
        "",
        "    def __init__(self, features: int, width: int) -> None:",
        "        super().__init__()",
        "        self.linear = nn.Linear(features, 2 * width, bias=False)",
        "",
        "    def forward(self, x: Tensor) -> Tensor:  # (batch, features)",
        "        gate, new = self.linear(x).chunk(2, dim=1)",
        "        carry = x[:, : gate.shape[1]]",
        f"        return carry + torch.sigmoid(gate) * ({block.act('new')} - carry)",
    ]


NAMES = {
    "residual": "Residual",
    "reduce": "FactorizedReduce",
    "classifier": "Classifier",
    "scan": "Scan",
    "squeeze_excite": "SqueezeExcite",
    "patches": "Patches",
    "attention": "Attention",
    "token_conv": "TimeConv",
    "token_mix": "TimeLinear",
    "position": "Position",
    **CALLED,
}
"""Blocks that are called alike whatever norm and activation they have."""

FIXED = {
    "zeros": '''
def {name}(x: Tensor, channels: int, stride: int) -> Tensor:
    """Zeros, as a convolution of x with this stride would be shaped."""
    height, width = (-(-n // stride) for n in x.shape[2:])
    return x.new_zeros(len(x), channels, height, width)
''',
    "squeeze_excite": '''
class {name}(nn.Module):
    """Scales every channel by a function of the means of all."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, squeezed)
        self.up = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, height, width)
        scale = self.up(F.relu(self.down(x.mean((2, 3)))))
        return x * torch.sigmoid(scale)[:, :, None, None]
''',
    "patches": '''
class {name}(nn.Module):
    """A linear map of every patch of an image, and where it stands."""

    def __init__(self, channels: int, width: int, patch: int, count: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.empty(count, width))
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, height, width)
        x = self.conv(x).flatten(2).transpose(1, 2)  # (batch, patches, width)
        return x + self.position
''',
    "attention": '''
class {name}(nn.Module):
    """Every element of a sequence reads all of them, by several heads."""

    def __init__(self, features: int, width: int, head: int) -> None:
        super().__init__()
        self.query = nn.Linear(features, width)
        self.key = nn.Linear(features, width)
        self.value = nn.Linear(features, width)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, features)
        query, key, value = (
            linear(x).unflatten(2, (-1, self.head)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / self.head**0.5
        weights = torch.softmax(scores, dim=3)  # (batch, heads, time, time)
        return (weights @ value).transpose(1, 2).flatten(2)
''',
    "token_conv": '''
class {name}(nn.Module):
    """A depthwise convolution along time."""

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            features, features, kernel, padding=kernel // 2, groups=features
        )

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, features)
        return self.conv(x.transpose(1, 2)).transpose(1, 2).contiguous()
''',
    "token_mix": '''
class {name}(nn.Module):
    """A linear map along time."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.linear = nn.Linear(time, time)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, features)
        return self.linear(x.transpose(1, 2)).transpose(1, 2).contiguous()
''',
    "position": '''
class {name}(nn.Module):
    """Adds a learned vector to each element of a sequence."""

    def __init__(self, time: int, features: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.empty(time, features))
        nn.init.normal_(self.place, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, features)
        return x + self.place
''',
    "scan": '''
class {name}(nn.Module):
    """Runs a cell along a sequence: (batch, time, features) -> (batch, time, width)."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell = cell
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.width)
        states = []
        for value in x.unbind(1):
            state = self.cell(state, value)
            states.append(state)
        return torch.stack(states, dim=1)
''',
    **TEXTS,
}
