"""Networks from what is written down: counts that are published, files that a run and an export wrote, and faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metanas.api.building import FORMS, build
from metanas.errors import CheckpointError, MetanasError, RunError, SpaceError
from metanas.exporters import Source, write
from metanas.network import Network, derived
from metanas.recipe.spaces import load_space
from metanas.space import Space
from metanas.space.importing import from_nasbench201

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
SMALL = {"channels": 4, "cells": 1}


def parameters(network: Network) -> int:
    return sum(p.numel() for p in network.parameters())


PUBLISHED = {
    "DARTS_V1": (
        "s3 1 s3 0 sk 0 s3 1 sk 0 s3 1 s3 0 sk 2",
        "mp 0 mp 1 sk 2 mp 0 mp 0 sk 2 sk 2 ap 0",
        3_169_414,
    ),
    "DARTS_V2": (
        "s3 0 s3 1 s3 0 s3 1 s3 1 sk 0 sk 0 d3 2",
        "mp 0 mp 1 sk 2 mp 1 mp 0 sk 2 sk 2 mp 1",
        3_349_342,
    ),
    "GDAS_V1": (
        "sk 0 sk 1 sk 0 s5 2 s3 3 sk 0 s5 4 s3 3",
        "s5 0 s3 1 s5 2 s5 1 d5 2 s3 1 s5 0 s5 1",
        3_368_782,
    ),
    "PDARTS": (
        "sk 0 d3 1 sk 0 s3 1 s3 1 s3 3 s3 0 d5 4",
        "ap 0 s5 1 s3 0 d5 2 mp 0 d3 1 d3 1 d5 3",
        3_433_798,
    ),
    "PC_DARTS_cifar": (
        "s3 1 sk 0 s3 0 d3 1 s5 0 s3 1 ap 0 d3 1",
        "s5 1 mp 0 s5 1 s5 2 s3 0 s3 3 s3 1 s3 2",
        3_634_678,
    ),
}
"""Normal cell, reduction cell, parameters at C 36, 20 layers, 10 classes without the auxiliary head, as the public
DARTS code counts them (chenxin061/pdarts, issue 7, prints 3,433,798; the papers: 3.3, 3.3, 3.4, 3.4 and 3.6 M)."""
LONG = {
    "s3": "sep_conv_3x3", "s5": "sep_conv_5x5", "d3": "dil_conv_3x3", "d5": "dil_conv_5x5", "sk": "skip_connect",
    "mp": "max_pool_3x3", "ap": "avg_pool_3x3",
}  # fmt: skip


def genotype(name: str) -> str:
    cells = [row.split() for row in PUBLISHED[name][:2]]
    normal, reduce = ([(LONG[op], int(j)) for op, j in zip(row[::2], row[1::2], strict=True)] for row in cells)
    return f"{name} = Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_have_their_published_size(name: str) -> None:
    with torch.device("meta"):
        network = build(genotype(name), channels=36, layers=20)
    assert parameters(network) == PUBLISHED[name][2]


def test_a_string_is_the_space_s_network() -> None:
    space = load_space("nasbench201", **SMALL)
    network = build(CELL, shape=(1, 8, 8), classes=3, seed=5, **SMALL)
    same = derived(space, space.parse(CELL), (1, 8, 8), 3, seed=5)
    assert (network.program, network.training) == (same.program, True)
    assert {k: v.tolist() for k, v in network.state_dict().items()} == {
        k: v.tolist() for k, v in same.state_dict().items()
    }


def test_what_is_not_said_has_a_default() -> None:
    network = build(CELL, **SMALL)
    assert (network.shapes["image"], network.shapes[network.program.output]) == ((3, 32, 32), (10,))


def test_an_architecture_needs_its_space(tiny: Space) -> None:
    architecture = tiny.sample(np.random.default_rng(0))
    assert build(architecture, space=tiny, shape=(1, 6, 6)).program == tiny.derive(architecture, 10)
    assert build(str(load_space("mlp").sample(np.random.default_rng(0))), space="mlp", shape=(4,)).shapes["row"] == (4,)
    with pytest.raises(
        SpaceError, match=r"^the space of \{'body': \('(skip|conv)',\)\} is not known; name it with space="
    ):
        build(architecture)


# Files


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Network]:
    """A folder with architecture.json and weights, and the network that is in it."""
    space = load_space("nasbench201", **SMALL)
    network = derived(space, space.parse(CELL), (1, 8, 8), 3, seed=7).eval()
    source = Source(space.parse(CELL), "nasbench201", ("a", "b", "c"), mean=(1.0,), std=(2.0,))
    write(network, source, folder=tmp_path / "out", formats=("json", "safetensors"))
    return tmp_path / "out", network


IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_export_is_built_with_its_weights(exported: tuple[Path, Network]) -> None:
    folder, network = exported
    for written in (folder, str(folder), folder / "architecture.json", str(folder / "architecture.json")):
        built = build(written, weights=True, **SMALL)
        assert not built.training and torch.equal(built(IMAGES), network(IMAGES))
    text = (folder / "architecture.json").read_text()
    for written in (text, json.loads(text)):
        built = build(written, weights=folder / "network.safetensors", **SMALL)
        assert torch.equal(built(IMAGES), network(IMAGES))


def test_other_images_and_classes_than_the_file_says(exported: tuple[Path, Network]) -> None:
    network = build(exported[0], shape=(3, 16, 16), classes=7, **SMALL)
    assert (network.shapes["image"], network.shapes[network.program.output]) == ((3, 16, 16), (7,))
    with pytest.raises(CheckpointError, match=r"does not fit the network: .*stem.* is \(4, 1, 3, 3\) in the file"):
        build(exported[0], shape=(3, 16, 16), classes=7, weights=True, **SMALL)


def test_a_space_with_other_options_is_refused(exported: tuple[Path, Network]) -> None:
    folder, network = exported
    with pytest.raises(SpaceError) as error:
        build(folder)
    file, other = folder / "architecture.json", build(CELL, shape=(1, 8, 8), classes=3)
    assert str(error.value) == (
        f"{file} is of a network with {parameters(network):,} parameters; the space 'nasbench201' with channels=16, "
        f"cells=5 gives {parameters(other):,}: give build() the options that it was made with"
    )


def test_settings_in_the_file_are_taken(exported: tuple[Path, Network]) -> None:
    facts = json.loads((exported[0] / "architecture.json").read_text())
    assert parameters(build({**facts, "settings": SMALL})) == parameters(exported[1])
    with pytest.raises(SpaceError, match=r"^space 'nasbench201' has no option 'chanels'; did you mean \"channels\"\?$"):
        build({**facts, "settings": {"chanels": 4}})


def test_a_run_says_what_its_space_is(quick: Callable[..., Any]) -> None:
    """Also one of the user's own, which no name stands for."""
    result = quick(run="first")
    built = build(result.run, weights=True)
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(built(images), result.network(images))


# Faults


def facts(**changes: Any) -> dict[str, Any]:
    return {"schema": 1, "space": "nasbench201", "architecture": from_nasbench201(CELL), **changes}


FAULTS = {
    "word": ("hello", SpaceError, f"the space of 'hello' is not known; name it with space=, or give {FORMS}"),
    "empty": ("", SpaceError, f"the space of '' is not known; name it with space=, or give {FORMS}"),
    "number": (7, SpaceError, f"build takes {FORMS}; got int"),
    "list": ([1], SpaceError, f"build takes {FORMS}; got list"),
    "json": ("{x", SpaceError, "the architecture is no JSON (Expecting property name enclosed in double quotes"),
    "deep": ("{" * 5000, SpaceError, "the architecture is no JSON (Expecting property name"),
    "no file": ("out/a.json", RunError, "there is no out/a.json; give '|nor_conv"),
    "architecture": (facts(architecture=3), SpaceError, "the architecture holds no architecture: an object from"),
    "label": (facts(architecture={"1<-0": 3}), SpaceError, "architecture: choice '1<-0' must hold a label or a list"),
    "missing": (facts(architecture={}), SpaceError, "architecture: choice '1<-0' is missing; give every choice"),
    "schema": (facts(schema=9), RunError, "the architecture needs a newer metanas (its schema is 9, this version"),
    "classes": (facts(classes=3), SpaceError, "the architecture: 'classes' must be a list, got int"),
    "shape": (facts(shape=[3, -1, "x"]), SpaceError, "the architecture: 'shape' must hold whole numbers > 0"),
    "space": (facts(space="nasbench20"), SpaceError, "no space named 'nasbench20'; did you mean \"nasbench201\"?"),
    "no space": (facts(space=3), SpaceError, "the space of {'1<-0': ('nor_conv_3x3',), '2<-0': ('none',), "),
    "python": ("{'normal': [], 'reduce': []}", SpaceError, "normal must hold 8 pairs (operation, input), two for each"),
}


@pytest.mark.parametrize("which", FAULTS)
def test_what_cannot_be_built(which: str) -> None:
    written, kind, said = FAULTS[which]
    with pytest.raises(MetanasError) as error:
        build(written)
    assert (type(error.value), str(error.value)[: len(said)]) == (kind, said)
    assert "\n" not in str(error.value)


def test_a_path_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A space is Python: only the caller may name a file of it."""
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    for name in (str(tmp_path / "evil.py"), "evil.py", "../evil"):
        with pytest.raises(SpaceError, match=r"^no space named .*; one of your own goes to space=$"):
            build(facts(space=name))


@pytest.mark.parametrize("name", ["../network", "/network", 3, "a/b"])
def test_weights_are_beside_the_file(exported: tuple[Path, Network], name: object) -> None:
    file = exported[0] / "architecture.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "name": name}))
    with pytest.raises(RunError, match=r"'name' must be that of a file beside it, got .*; give weights= the file$"):
        build(file, weights=True, **SMALL)


def test_weights_need_a_file() -> None:
    with pytest.raises(
        RunError, match=r"^weights=True takes those beside an architecture.json: give its path, or weights= "
    ):
        build(CELL, weights=True, **SMALL)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"classes": 0}, "classes must be a whole number >= 1, got 0"),
        ({"classes": True}, "classes must be a whole number >= 1, got True"),
        ({"shape": 32}, "shape must be (channels, height, width) of an image or (features,) of a row, got 32"),
        ({"shape": (3, 0, 32)}, "shape must be (channels, height, width) of an image or (features,) of a row"),
    ],
    ids=["classes", "no number", "shape", "empty"],
)
def test_sizes_that_cannot_be(more: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as error:
        build("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", **more)
    assert str(error.value).startswith(said)


def test_files_that_hold_no_architecture(tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text("x = 1")
    with pytest.raises(SpaceError, match=r"network\.py is no architecture\.json; give that file, or its folder"):
        build(tmp_path / "network.py")
    with pytest.raises(RunError, match=r"there is no nowhere"):
        build("nowhere/")
