"""One call writes what outlives the tool, and proves it: every file is read back and computes what its source does.

stage    all files in a hidden folder beside their place
verify   read each back; outputs on random batches within 1e-5 of the largest output; the same in a new process that has
         no metanas, where that is asked for
move     rename each to its place; what was there before is there until that moment
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metanas.errors import ExportError, RunError, nearest
from metanas.exporters.card import card
from metanas.exporters.comparing import EXAMPLES, compare, compare_outputs, expected_outputs
from metanas.exporters.draft import FULL, Draft, Measure
from metanas.exporters.loss import Loss, loss_of, random_batch
from metanas.exporters.onnx import onnx_bytes, read_onnx, require_onnx
from metanas.exporters.pictures import Picture, check_svg, dot, mermaid, picture_bytes, svg
from metanas.exporters.plan import check, parts
from metanas.exporters.precision import HALVES, INT8, WITHOUT_INT8, check_precision, rounded
from metanas.exporters.process import Case, outputs_alone
from metanas.exporters.pt2 import pt2_bytes, read_pt2
from metanas.exporters.python import python_code
from metanas.exporters.source import Source
from metanas.exporters.story import Story
from metanas.exporters.weights import load_weights, weights_bytes
from metanas.network import Network
from metanas.run.atomic import dump_json, read_json, sync_folder, write_bytes
from metanas.space import Architecture

VERIFY = ("here", "process")
OWN_FORMATS = ("json", "safetensors")
RUN_FORMATS = (*OWN_FORMATS, "python")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    file:   its name; `{name}` stands for the network's
    data:   draft -> the file's content
    reload: (path, draft, weights file) -> what the file computes, or None where it computes nothing; it raises where
            the file does not say what it should
    sizes:  of the batches on which it is compared
    reader: what loads it in a process without metanas: "torch", "onnx", or "" for a file that computes nothing
    turn:   a file that tells of others has a later one
    """

    file: str
    data: Callable[[Draft], bytes]
    reload: Callable[[Path, Draft, Path], Callable[..., Tensor] | None]
    sizes: tuple[int, ...] = (EXAMPLES,)
    reader: str = ""
    turn: int = 0


class Written(tuple[Path, ...]):
    """The paths of what an export wrote, in the order of the formats. `losses`: format -> what its file of lower
    precision loses; empty for float32.
    """

    losses: Mapping[str, Loss]

    def __new__(cls, paths: Iterable[Path] = (), losses: Mapping[str, Loss] | None = None) -> Written:
        made = super().__new__(cls, paths)
        made.losses = dict(losses or {})
        return made


def chosen(
    formats: str | Sequence[str], precision: str = FULL, *, known: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The names of formats: "all" stands for those of `known` (default: `FORMATS`) that have the precision.

    >>> chosen("onnx"), chosen(["all"], "int8"), chosen(["json", "all"], known=["json", "safetensors"])
    (('onnx',), ('json', 'onnx', 'svg', 'dot', 'mermaid', 'card'), ('json', 'safetensors'))
    """
    every = [name for name in (known or FORMATS) if not (precision == INT8 and name in WITHOUT_INT8)]
    asked = [formats] if isinstance(formats, str) else formats
    return tuple(dict.fromkeys(each for name in asked for each in (every if name == "all" else [name])))


def usual_formats(network: Network) -> tuple[str, ...]:
    """What is written unless one says otherwise; an operation of the user's own has no text that could stand alone."""
    try:
        parts(network)
    except ExportError:
        return OWN_FORMATS
    return RUN_FORMATS


def write(
    network: Network,
    source: Source,
    *,
    folder: str | Path,
    name: str = "network",
    formats: str | Sequence[str] = RUN_FORMATS,
    force: bool = False,
    precision: str = FULL,
    verify: str = "here",
    measure: Measure | None = None,
    story: Story | None = None,
) -> Written:
    """Writes `network` in every format; returns the paths, in the order of `formats`, and what was lost.

    Args:
        network: a derived one, trained or not; it is not changed.
        source: the architecture, the classes, and how pixels become inputs.
        folder: made where it is missing.
        name: of the files: letters, digits, `_` and `-`, first a letter.
        formats: names from `FORMATS`, or "all".
        force: replace files that are there.
        precision: of the weights: `"float32"`, as the network has them; `"float16"` and `"bfloat16"`, stored in half
            and computed in float32; `"int8"`, for "onnx" alone. What is lost is measured, not refused.
        verify: `"here"`: files are read back in this process; `"process"`: also in a new one that has no metanas, which
            takes a second or two more.
        measure: of a reduced precision, the score on test data of whatever takes a batch as the network does; without
            one, outputs on random inputs are compared.
        story: how the network was found, for "card".

    Raises:
        ExportError: an unknown format, a file that is there, a disk that does not take it, or a file that does not
            compute what `network` does: nothing new is left behind then. Or a network that one of the formats cannot
            express: the others are written then, and the message says so.
        MissingDependencyError: "onnx" without its packages; before anything is written.
    """
    formats = chosen(formats, precision)
    _allowed(name, formats, precision, verify)
    check(network.program)
    _fits(network, source)
    folder = Path(folder)
    targets = {wanted: folder / FORMATS[wanted].file.format(name=name) for wanted in dict.fromkeys(formats)}
    _free(targets, force)
    draft = _draft(network, source, name, precision, measure)
    draft = replace(draft, story=story, files={wanted: path.name for wanted, path in targets.items()})
    try:
        _stage_and_move(draft, targets, alone=verify == "process")
    except (OSError, RunError) as error:
        raise ExportError(f"cannot export to {folder}: {error}") from error
    return Written(targets.values(), draft.losses)


def check_verify(verify: str) -> None:
    """Raises ExportError for an unknown way to verify."""
    if verify not in VERIFY:
        raise ExportError(f"verify must be one of {', '.join(VERIFY)}, got {verify!r}")


def _allowed(name: str, formats: Sequence[str], precision: str, verify: str) -> None:
    for wanted in formats:
        if wanted not in FORMATS:
            raise ExportError(f"unknown format {wanted!r}{nearest(wanted, FORMATS)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ExportError(f"name must be letters, digits, '_' and '-', first a letter, got {name!r}")
    check_verify(verify)
    check_precision(precision, formats)
    if "onnx" in formats:
        require_onnx()


def _free(targets: Mapping[str, Path], force: bool) -> None:
    there = [str(path) for path in targets.values() if path.exists() or path.is_symlink()]
    folders = [str(path) for path in targets.values() if path.is_dir()]
    for path in targets.values():
        if path.parent.exists() and not path.parent.is_dir():
            raise ExportError(f"{path.parent} is a file; choose a folder")
    if folders:
        raise ExportError(f"a folder is in the way: {', '.join(folders)}; choose another folder or name")
    if there and not force:
        raise ExportError(
            f"already there: {', '.join(there)}; choose another folder or name, or give force=True (--force)"
        )


def _fits(network: Network, source: Source) -> None:
    shape, out = network.shapes[network.program.inputs[0]], network.shapes[network.program.output]
    if source.mean and len(source.mean) != shape[0]:
        raise ExportError(
            f"mean has {len(source.mean)} channels and the network's input {shape[0]}; give one a channel"
        )
    if (len(source.classes) or 1) != out[0]:
        raise ExportError(f"{len(source.classes)} classes for a network with {out[0]} outputs; name every output")
    if source.table is not None and (source.table.width,) != shape:
        raise ExportError(f"the table gives inputs ({source.table.width},) and the network takes {shape}; give its own")


def _draft(network: Network, source: Source, name: str, precision: str, measure: Measure | None) -> Draft:
    twin = copy.deepcopy(network).cpu().eval()
    draft = Draft(twin, source, name, precision=precision, measure=measure)
    if precision not in HALVES:
        return draft
    stored = rounded(twin, precision)
    return replace(draft, stored=stored, loss=loss_of(twin, stored, precision, measure))


def _stage_and_move(draft: Draft, targets: Mapping[str, Path], *, alone: bool) -> None:
    folder = next(iter(targets.values()), Path()).parent
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    moved = False
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export-", suffix=".tmp", dir=folder)).resolve()
    try:
        weights = staging / FORMATS["safetensors"].file.format(name=draft.name)
        write_bytes(weights, weights_bytes(draft))  # the Python module is checked with it in any case
        staged, problems = _staged(draft, targets, staging)
        _verified(draft, staged, weights)
        if alone:
            _verified_alone(draft, staged, weights)
        for wanted in staged:
            (staging / targets[wanted].name).replace(targets[wanted])
            moved = True
        sync_folder(folder)
        if problems:
            kept = f"; written: {', '.join(str(targets[wanted]) for wanted in staged)}" if staged else ""
            raise ExportError("; ".join(problems) + kept)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not moved:
            for new in made:
                with contextlib.suppress(OSError):  # what made it fail counts
                    new.rmdir()


def _staged(draft: Draft, targets: Mapping[str, Path], staging: Path) -> tuple[dict[str, Path], list[str]]:
    """The files that could be made, in the order of the formats, and why others could not."""
    made: dict[str, Path] = {}
    problems = []
    for wanted in sorted(targets, key=lambda wanted: FORMATS[wanted].turn):
        try:
            path = staging / targets[wanted].name
            if FORMATS[wanted].turn:
                draft = replace(draft, files={each: made[each].name for each in targets if each in made})
            if wanted != "safetensors":
                write_bytes(path, FORMATS[wanted].data(draft))
            if FORMATS[wanted].reader == "torch" and draft.loss is not None:
                draft.losses[wanted] = draft.loss
            made[wanted] = path
        except ExportError as error:
            problems.append(f"{wanted}: {error}")
    return {wanted: made[wanted] for wanted in targets if wanted in made}, problems


def _verified(draft: Draft, staged: Mapping[str, Path], weights: Path) -> None:
    for wanted, path in staged.items():
        computed = FORMATS[wanted].reload(path, draft, weights)
        for size in FORMATS[wanted].sizes if computed is not None else ():
            assert computed is not None
            if wanted == "onnx" and draft.reduced:
                _finite(computed(*random_batch(draft.network, size)), wanted)
            else:
                compare(draft.held, computed, wanted, examples=size)


def _finite(outputs: Tensor, what: str) -> None:
    if not outputs.isfinite().all():
        raise ExportError(f"{what}: outputs of the written file are not finite; choose a precision with more range")


def _verified_alone(draft: Draft, staged: Mapping[str, Path], weights: Path) -> None:
    """The same in processes without metanas, one for each reader. Weights are loaded by the module that goes with them,
    which is written for that where it was not asked for.
    """
    files = dict(staged)
    if "safetensors" in files and "python" not in files:
        with contextlib.suppress(ExportError):  # a user's operation: no module could be written
            path = weights.parent / "reader.py"
            write_bytes(path, FORMATS["python"].data(draft))
            files["python"] = path
    for reader in ("torch", "onnx"):
        wanted = [w for w in files if FORMATS[w].reader == reader and w != "safetensors"]
        sizes = [(w, size) for w in wanted for size in FORMATS[w].sizes]
        cases = [
            Case(w, files[w], random_batch(draft.network, size), weights if w == "python" else None)
            for w, size in sizes
        ]
        if not cases:
            continue
        for (w, size), got in zip(sizes, outputs_alone(reader, cases, weights.parent), strict=True):
            if w == "onnx" and draft.reduced:
                _finite(got, w)
            else:
                compare_outputs(expected_outputs(draft.held, size), got, f"{w}, in a new process")


def _json(draft: Draft) -> bytes:
    losses = {wanted: loss.to_json() for wanted, loss in draft.losses.items()}
    facts = {**draft.facts(), **({"losses": losses} if losses else {})}
    facts.pop("loss", None)
    return (dump_json(facts, indent=1) + "\n").encode("ascii")


def _read_json(path: Path, draft: Draft, weights: Path) -> None:
    if Architecture.from_json(read_json(path)["architecture"]) != draft.source.architecture:
        raise ExportError(f"json: {path.name} does not hold the architecture {draft.source.architecture}")


def _read_weights(path: Path, draft: Draft, weights: Path) -> Network:
    blank = copy.deepcopy(draft.network)
    with torch.no_grad():
        for value in blank.state_dict().values():
            value.fill_(7)  # so that a tensor that is not read shows
    load_weights(blank, path)
    return blank


def _read_python(path: Path, draft: Draft, weights: Path) -> Callable[..., Tensor]:
    """Runs the written file in a namespace of its own."""
    spec = importlib.util.spec_from_file_location(f"metanas_exported_{id(path)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        loaded: Callable[..., Tensor] = module.load(weights).eval()
    except RuntimeError as error:
        raise ExportError(f"python: the written module does not take the weights ({error})") from error
    return loaded


def _picture(write: Callable[[Picture], str]) -> Callable[[Draft], bytes]:
    return lambda d: picture_bytes(write, d.source.structure, d.source.architecture, d.network.shapes)


FORMATS: Mapping[str, Format] = {
    "json": Format("architecture.json", _json, _read_json, turn=1),
    "safetensors": Format("{name}.safetensors", weights_bytes, _read_weights, reader="torch"),
    "python": Format(
        "{name}.py",
        lambda draft: python_code(draft.network, draft.source, draft.name, draft.precision).encode(),
        _read_python,
        reader="torch",
    ),
    "pt2": Format(
        "{name}.pt2",
        lambda draft: pt2_bytes(draft.held, draft.facts(), draft.precision),
        lambda path, draft, _: read_pt2(path, draft.facts()),
        sizes=(1, 2, 5),
        reader="torch",
    ),
    "onnx": Format(
        "{name}.onnx", onnx_bytes, lambda path, draft, _: read_onnx(path, draft), sizes=(1, 2, 5), reader="onnx"
    ),
    "svg": Format("{name}.svg", _picture(svg), lambda path, draft, _: check_svg(path)),
    "dot": Format("{name}.dot", _picture(dot), lambda path, draft, _: None),
    "mermaid": Format("{name}.mmd", _picture(mermaid), lambda path, draft, _: None),
    "card": Format("{name}.md", lambda draft: card(draft).encode(), lambda path, draft, _: None, turn=2),
}
"""Name of a format -> what it is; a new one is a line here."""
