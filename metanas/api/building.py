"""A network from what is written down: a benchmark's string, a published genotype, or metanas's own JSON.

    metanas.build("|nor_conv_3x3~0|+|...|", shape=(3, 32, 32), classes=10)
    metanas.build("Genotype(normal=[('sep_conv_3x3', 0), ...], ...)", channels=36, layers=20)
    metanas.build("out/architecture.json", weights=True)

For those who have an architecture and want the module, without a search. Nothing that comes in is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metanas.api.documents import read_document, read_spaces
from metanas.api.result import Result
from metanas.errors import RunError, SpaceError, nearest
from metanas.exporters import load_weights
from metanas.network import OPS, Maker, Network, derived
from metanas.recipe.spaces import list_spaces, load_space
from metanas.run import RunFolder, check_schema, is_name
from metanas.run.atomic import parse_json, read_json
from metanas.space import Architecture, Space
from metanas.space.importing import from_genotype, from_nasbench201

SCHEMA = 1
"""Of the architecture.json that this version reads."""

SHAPE, CLASSES = (3, 32, 32), 10
FILE = "architecture.json"
FORMS = "'|nor_conv_3x3~0|+|...|', 'Genotype(normal=[...], ...)', JSON, or the path of an architecture.json"
CALL = re.compile(r"\s*(\w+\s*=\s*)?\w+\s*\(")
"""How the text of a genotype begins: `Genotype(` or `DARTS_V2 = Genotype(`."""


@dataclass(frozen=True)
class Written:
    """An architecture as it was written down, and what stands beside it.

    Args:
        taken: choice -> label or labels; text that only its space can read; None: as `facts` says.
        space: the name of its space, or the space itself; None: the text does not say.
        facts: of an architecture.json: shape, classes, parameters.
        file: where the facts come from.
    """

    taken: Mapping[str, Any] | str
    space: str | Space | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None


def build(
    written: Any,
    *,
    space: str | Path | Space | None = None,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    weights: bool | str | Path = False,
    seed: int = 0,
    ops: Mapping[str, Maker] | None = None,
    **space_options: Any,
) -> Network:
    """The derived network of an architecture that is written down, untrained or with exported weights.

    Args:
        written: a NAS-Bench-201 string; a DARTS genotype as text, namedtuple or dict (parsed, never run); what
            `metanas.export` writes as architecture.json, as text, dict, path of the file or of its folder; or an
            Architecture, with its `space`; or what a search gave.
        space: name, file or Space; default: the one that the text belongs to, or that of the run that a path is in.
        shape: of one input, without the batch; default: the file's, else (3, 32, 32).
        classes: outputs; default: the file's, else 10.
        weights: True: those of the .safetensors file beside an architecture.json; or a path of such a file.
        seed: of the initial weights.
        ops: of a space with operations of your own.
        space_options: of the space, as for `metanas.load_space`: `channels=36, layers=20`; default: those that the
            file holds.

    Returns:
        A `Network`, in training mode; with weights in evaluation mode. It takes inputs that are normalised.

    Raises:
        SpaceError: what came cannot be read, with the place in the text and the nearest name; or the space, built with
            these options, has not as many parameters as the file says.
        RunError, CheckpointError: a file is missing, damaged, or holds weights of another network.

    >>> cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    >>> network = build(cell, shape=(1, 8, 8), classes=3, channels=4, cells=1)
    >>> network.shapes[network.program.output], sum(p.numel() for p in network.parameters())
    ((3,), 8175)
    """
    found = read_written(written)
    _require(shape, classes)
    chosen = _space(found, space, space_options)
    taken = found.taken
    architecture = chosen.parse(taken) if isinstance(taken, str) else chosen.architecture(taken)
    named = found.facts.get("classes")
    network = derived(
        chosen,
        architecture,
        tuple(shape or found.facts.get("shape") or SHAPE),
        (CLASSES if named is None else len(named) or 1) if classes is None else classes,
        ops=OPS if ops is None else ops,
        seed=seed,
    )
    if shape is None and classes is None:
        _as_many(network, found, chosen)
    if weights:
        load_weights(network, _weights_of(found) if weights is True else Path(weights))
        network.eval()
    return network


def _require(shape: object, classes: object) -> None:
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 1):
        raise SpaceError(f"classes must be a whole number >= 1, got {classes!r}")
    fits = (
        isinstance(shape, tuple | list) and len(shape) in (1, 2, 3) and all(isinstance(n, int) and n > 0 for n in shape)
    )
    if shape is not None and not fits:
        raise SpaceError(f"shape must be (channels, height, width) of an image or (features,) of a row, got {shape!r}")


def read_written(written: Any) -> Written:
    """What `build` takes, read but not built. Raises SpaceError or RunError where it cannot be read."""
    if isinstance(written, Path):
        return _of_file(written)
    if isinstance(written, str):
        return _of_text(written)
    if isinstance(written, Result):
        facts = {"shape": list(written.shape), "classes": list(written.classes)}
        return Written(written.architecture, written.space, facts)
    if isinstance(written, Mapping) and "architecture" in written:
        return _of_facts(written, None)
    if isinstance(written, Mapping) and not (isinstance(written.get("normal"), list | tuple)):
        return Written(written)
    if isinstance(written, Mapping) or hasattr(written, "normal"):
        return Written(from_genotype(written), "darts")
    raise SpaceError(f"build takes {FORMS}; got {type(written).__name__}")


def _of_text(text: str) -> Written:
    stripped = text.strip()
    if stripped.startswith("|"):
        return Written(from_nasbench201(text), "nasbench201")
    if CALL.match(text):
        return Written(from_genotype(text), "darts")
    if stripped.startswith("{"):
        try:
            return read_written(parse_json(stripped))
        except ValueError as error:
            if isinstance(error, SpaceError):
                raise
            if "normal" in stripped:  # a dict as Python writes it
                return Written(from_genotype(text), "darts")
            raise SpaceError(f"the architecture is no JSON ({error}); give {FORMS}") from None
    if stripped.endswith((".json", "/")) or (
        stripped and "\0" not in text and len(text) < 1024 and Path(text).exists()
    ):
        return _of_file(Path(text))
    return Written(text)


def _of_file(path: Path) -> Written:
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise RunError(f"there is no {file}; give {FORMS}")
    if file.suffix != ".json":
        raise SpaceError(f"{file} is no architecture.json; give that file, or its folder")
    return _of_facts(read_json(file), file)


def _of_facts(facts: Mapping[str, Any], file: Path | None) -> Written:
    where = str(file or "the architecture")
    taken, name = facts.get("architecture"), facts.get("space")
    if "schema" in facts:
        check_schema(facts, Path(where), known=SCHEMA)
    if not isinstance(taken, Mapping):
        raise SpaceError(f"{where} holds no architecture: an object from choices to labels under 'architecture'")
    for key, kind in (("classes", list), ("shape", list), ("parameters", int), ("settings", dict)):
        if key in facts and not isinstance(facts[key], kind):
            raise SpaceError(f"{where}: {key!r} must be a {kind.__name__}, got {type(facts[key]).__name__}")
    if not all(isinstance(n, int) and n > 0 for n in facts.get("shape", ())):
        raise SpaceError(f"{where}: 'shape' must hold whole numbers > 0, as [3, 32, 32], got {facts['shape']!r}")
    return Written(Architecture.from_json(taken), name if isinstance(name, str) else None, facts, file)


def _space(found: Written, given: str | Path | Space | None, options: Mapping[str, Any]) -> Space:
    """The space that was asked for; else the run's that the file is in; else the one of that name."""
    if given is not None:
        return load_space(given, **options)
    if found.file is not None and not options and (found.file.parent / "space.json").is_file():
        run = RunFolder(found.file.parent)
        if "module" in read_document(run)["handed"]:
            raise RunError(
                f"{run.path} is of a module of your own, which build() does not have; hand it over: "
                "metanas.load_run(...).result(module=...).network"
            )
        return read_spaces(run, read_document(run))[1]
    if found.space is None:
        shown = found.taken if isinstance(found.taken, str) else dict(found.taken)
        text = repr(shown)
        raise SpaceError(
            f"the space of {text if len(text) <= 60 else text[:60] + '...'} is not known; name it with space=, or give "
            f"{FORMS}; of a run its folder, 'runs/first'"
        )
    if isinstance(found.space, str) and found.space not in list_spaces():  # a path in a file would run what it names
        raise SpaceError(
            f"no space named {found.space!r}{nearest(found.space, list_spaces())}; one of your own goes to space="
        )
    return load_space(found.space, **{**found.facts.get("settings", {}), **options})


def _as_many(network: Network, found: Written, space: Space) -> None:
    """Refuses a network of another size than the file's: its space has other options."""
    said, built = found.facts.get("parameters"), sum(p.numel() for p in network.parameters())
    if said is not None and said != built:
        options = ", ".join(f"{name}={value!r}" for name, value in space.settings.items())
        raise SpaceError(
            f"{found.file or 'the architecture'} is of a network with {said:,} parameters; the space {space.name!r} "
            f"with {options or 'no options'} gives {built:,}: give build() the options that it was made with"
        )


def _weights_of(found: Written) -> Path:
    """The weights beside an architecture.json."""
    name = found.facts.get("name", "network")
    if found.file is None:
        raise RunError("weights=True takes those beside an architecture.json: give its path, or weights= the file")
    if not isinstance(name, str) or not is_name(name):
        raise RunError(f"{found.file}: 'name' must be that of a file beside it, got {name!r}; give weights= the file")
    return found.file.with_name(f"{name}.safetensors")
