"""A model card: one page in Markdown that says what a network is, how well it does, how to use it, and where it ends.

Names come from data and from users, so they stand between backticks, where Markdown obeys nothing; the rest is the
card's own text and numbers.
"""

from __future__ import annotations

import math
import platform
import re
import statistics
from collections.abc import Iterator, Mapping

import torch

from metanas import __version__
from metanas.exporters.draft import Draft
from metanas.exporters.latency import latencies
from metanas.exporters.story import Story

FLOPS_PER_MULTIPLY_ADD = 2
Z = 1.959963984540054
"""Normal quantile of a 95 % interval."""
SHOWN = 30
"""Classes that are named; more are counted."""
LONGEST = 400


def card(draft: Draft) -> str:
    """The page."""
    story = draft.story or Story()
    sections = (
        _head(draft),
        _found(draft, story),
        _data(draft, story),
        _quality(draft, story),
        _cost(draft, story),
        _use(draft),
        _limits(draft, story),
        _versions(story),
    )
    return "\n".join(line for section in sections for line in section).rstrip("\n") + "\n"


def code(text: object) -> str:
    """Any text as a code span on one line: what is not printable becomes visible, backticks end nothing.

    >>> code("cat"), code("a`b"), code("x\\n# y"), code("")
    ('`cat`', '``a`b``', '`x\\\\n# y`', '` `')
    """
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)) or " "
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{space}{shown}{space}{fence}"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` examples (Wilson 1927).

    >>> [round(end, 4) for end in wilson(0.9, 100)]
    [0.8256, 0.9448]
    >>> wilson(1.0, 4)[1]
    1.0
    """
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    reach = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _head(draft: Draft) -> Iterator[str]:
    source, shapes, story = draft.source, draft.network.shapes, draft.story or Story()
    count = sum(p.numel() for p in draft.network.parameters())
    shape, out = shapes[draft.network.program.inputs[0]], shapes[draft.network.program.output]
    task = f"{len(source.classes)} classes" if source.classes else "one quantity"
    yield f"# Model card: {code(draft.name)}"
    yield ""
    yield f"A network for {task}, with {count:,} parameters, {story.made}."
    yield ""
    if len(source.architecture):
        yield f"- Architecture: {code(source.architecture)}"
    yield f"- Search space: {code(source.space)}"
    yield f"- Input: (batch, {', '.join(map(str, shape))}), float32. Output: (batch, {', '.join(map(str, out))})"
    yield from _inputs(draft)
    if source.classes:
        more = f", and {len(source.classes) - SHOWN} more" if len(source.classes) > SHOWN else ""
        yield f"- Classes, in the order of the outputs: {', '.join(map(code, source.classes[:SHOWN]))}{more}"


def _inputs(draft: Draft) -> Iterator[str]:
    source = draft.source
    if source.mean:
        mean, std = (", ".join(f"{x:.6g}" for x in numbers) for numbers in (source.mean, source.std))
        low, high = source.pixels
        yield f"- Normalisation, for each channel: (pixel - mean) / std with mean {mean} and std {std}"
        yield f"- Pixels: from {low:g} to {high:g}"
    elif source.table is not None:
        yield f"- Columns: {', '.join(code(column.name) for column in source.table.columns[:SHOWN])}"
    if not source.classes:
        mean_of, std_of = source.scale
        yield f"- What is predicted: output * {std_of:.6g} + {mean_of:.6g}"


def _found(draft: Draft, story: Story) -> Iterator[str]:
    if not story.method and story.space_size is None:
        return
    yield from ("", "## How it was found", "")
    yield from _rows(story.method)
    if story.space_size is not None:
        yield f"- Architectures in the space: {_count(story.space_size)}"


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"about 10^{len(str(number)) - 1}"


def _rows(rows: Mapping[str, str | int | float]) -> Iterator[str]:
    for name, value in rows.items():
        shown = code(value) if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
        yield f"- {re.sub(r'[^0-9A-Za-z ,.()-]', '', name)}: {shown}"


def _data(draft: Draft, story: Story) -> Iterator[str]:
    if story.data:
        yield from ("", "## Data", "")
        yield from _rows(story.data)


def _quality(draft: Draft, story: Story) -> Iterator[str]:
    if story.score is None:
        return
    metric = code(story.metric)
    yield from ("", "## How well it does", "")
    yield f"- {metric} on the test split: {_score(story, story.score)}{_interval(story)}"
    if story.random:
        mean = statistics.fmean(story.random)
        spread = f", standard deviation {_score(story, statistics.stdev(story.random))}" if story.random[1:] else ""
        yield (
            f"- {len(story.random)} random architecture{'s' if story.random[1:] else ''} of the same space, trained "
            f"the same way: mean {_score(story, mean)}{spread}"
        )
    if story.scratch is not None:
        yield f"- The same architecture, trained from nothing: {_score(story, story.scratch)}"
    if story.start is not None:
        yield f"- The same network, trained with the values at the start: {_score(story, story.start)}"


def _score(story: Story, score: float) -> str:
    if not math.isfinite(score):
        return "not finite"
    return f"{score:.2%}" if story.metric == "accuracy" else f"{score:.4f}"


def _interval(story: Story) -> str:
    if story.metric != "accuracy" or not story.tested or story.score is None or not 0 <= story.score <= 1:
        return ""
    low, high = wilson(story.score, story.tested)
    return f" (95 % interval for {story.tested:,} examples: {low:.2%} to {high:.2%}; one training, one seed)"


def _cost(draft: Draft, story: Story) -> Iterator[str]:
    yield from ("", "## What it costs", "")
    yield f"- Parameters: {sum(p.numel() for p in draft.network.parameters()):,}"
    if story.multiply_adds is not None:
        flops = FLOPS_PER_MULTIPLY_ADD * story.multiply_adds
        yield f"- One example, forward: {story.multiply_adds:,} multiply-adds = {flops:,} FLOPs (2 to a multiply-add)"
    threads = torch.get_num_threads()
    yield f"- Time on the CPU of the export ({code(platform.machine())}, {threads} thread{'s' * (threads > 1)}, torch):"
    for found in latencies(draft.held):
        half = f"middle half {found.low:.2f} to {found.high:.2f} ms"
        yield f"    - batch {found.batch}: median {found.median:.2f} ms, {half}"


def _use(draft: Draft) -> Iterator[str]:
    yield from ("", "## How to use it")
    for wanted in draft.files:
        if wanted in USES:
            words = {"file": draft.files[wanted], "name": draft.name, "input": _input(draft), **_module(draft.name)}
            what, lines = USES[wanted]
            yield from ("", what.format(**words), *[""][: len(lines)])
            yield from (f"    {line.format(**words)}" for line in lines)
    if draft.reduced:
        yield from ("", f"Weights are stored in {draft.precision}. {KEPT.get(draft.precision, '')}".rstrip(), "")
        yield from (f"- {name}: {loss}" for name, loss in draft.losses.items())


def _module(name: str) -> dict[str, str]:
    """How Python imports the module; a name with a hyphen is none that it can write."""
    if name.isidentifier():
        return {"importing": f"import {name}", "module": name}
    return {"importing": "import importlib", "module": f'importlib.import_module("{name}")'}


def _input(draft: Draft) -> str:
    return {3: "images", 1: "rows"}.get(len(draft.network.shapes[draft.network.program.inputs[0]]), "sequences")


KEPT = {
    "float16": "Computed in float32. What is lost:",
    "bfloat16": "Computed in float32. What is lost:",
    "int8": "Linear maps and convolutions are computed in 8 bits. What is lost:",
}

USES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "python": (
        "`{file}`: a module that needs torch alone; it loads `{name}.safetensors` beside it.",
        ("{importing}", "scores = {module}.load()({input})"),
    ),
    "safetensors": (
        "`{file}`: the weights and, in its header, what this card says of inputs and classes.",
        ("from safetensors.torch import load_file", 'tensors = load_file("{file}")'),
    ),
    "pt2": (
        "`{file}`: the graph of torch.export, for any batch size. Its extra file `metanas.json` tells the rest.",
        ("import torch", 'scores = torch.export.load("{file}").module()({input})'),
    ),
    "onnx": (
        "`{file}`: for onnxruntime and other readers of ONNX, for any batch size. Its metadata tells the rest.",
        (
            "import onnxruntime",
            'scores, = onnxruntime.InferenceSession("{file}").run(None, {{"{input}": {input}}})',
        ),
    ),
    "json": ("`{file}`: the architecture and what goes with it, to build on.", ()),
}
"""Format -> what its file is, and how to use it."""


def _limits(draft: Draft, story: Story) -> Iterator[str]:
    source = draft.source
    yield from ("", "## Limits", "")
    yield "- It knows what it was trained on. Other cameras, sizes, columns or times may need a training of their own."
    if source.classes:
        yield "- It always answers one of its classes, also for an input that is none of them."
        yield "- Scores are not calibrated: a softmax of them ranks classes, and is no probability to rely on."
    yield "- Nothing was measured of groups within the data, of fairness, or of inputs made to mislead."
    if story.score is not None:
        beside = len(story.random) + (story.scratch is not None) + (story.start is not None)
        also = f" and each of the {beside} beside it" if beside > 1 else " and the one beside it" if beside else ""
        yield f"- The test split was looked at once for this network{also}; nothing was chosen or trained by it."
    else:
        yield "- This network was not tested: it is as good as you have measured it to be."
    yield from (f"- {re.sub(r'[^0-9A-Za-z ,.;:()%-]', '', limit)}" for limit in story.limits)


def _versions(story: Story) -> Iterator[str]:
    found = {"metanas": __version__, "torch": torch.__version__, "python": platform.python_version(), **story.versions}
    yield from ("", "## Versions", "")
    yield ", ".join(f"{re.sub(r'[^0-9A-Za-z ]', '', name)} {code(version)}" for name, version in found.items())
