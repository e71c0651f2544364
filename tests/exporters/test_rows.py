"""Networks for tables: the written module reads rows by the rule of the search, and predicts classes and quantities."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from metanas.data import Column, Table
from metanas.errors import ExportError
from metanas.exporters import Source, write
from metanas.network import Network, derived
from metanas.space import NEEDED, Architecture, Space, chain, one_of, op

WORDS = tuple(f"a rather long word, number {k}" for k in range(9))
TABLE = Table(
    (
        Column("age", mean=41.25, std=12.5, median=40.0, missing=True),
        Column('t"own\n', words=("Köln", "猫", 'U"lm')),
        Column("many", words=WORDS, missing=True),
        Column("size", mean=-1e-3, std=1e7),
    )
)
ROWS = [
    {"age": "50.5", 't"own\n': "Köln", "many": WORDS[3], "size": "1e6"},
    {"age": "", 't"own\n': 'U"lm', "many": "NA", "size": " 7 "},
    {"age": "?", 't"own\n': "Hof", "many": "never seen", "size": "-.5"},
    {"age": "40", 't"own\n': "猫", "many": WORDS[0], "size": ""},
]
SPACE = Space(
    chain(
        ("wide", op("linear", width=6, activation="relu")),
        ("body", one_of("body", {"linear": op("linear", width=6), "skip": op("skip")})),
        ("head", op("linear", width=NEEDED)),
    ),
    "rows",
)


def made(outputs: int = 3) -> tuple[Network, Source]:
    """A network of that many outputs; one output is a regression."""
    architecture = Architecture({"body": "linear"})
    network = derived(SPACE, architecture, (TABLE.width,), outputs, seed=1).eval()
    classes = ("no", "yes", 'per"haps')[:outputs] if outputs > 1 else ()
    scale = (0.0, 1.0) if classes else (152.25, 77.5)
    return network, Source(architecture, "rows", classes, table=TABLE, scale=scale)


def loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("written_for_rows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected(network: Network, source: Source) -> list[Any]:
    with torch.no_grad():
        outputs = network(TABLE.encode(ROWS))
    if source.classes:
        return [source.classes[k] for k in outputs.argmax(1).tolist()]
    return [output * 77.5 + 152.25 for output in outputs[:, 0].tolist()]


@pytest.mark.parametrize("outputs", [3, 1])
def test_rows_are_read_by_the_same_rule(tmp_path: Path, outputs: int) -> None:
    network, source = made(outputs)
    write(network, source, folder=tmp_path)
    module = loaded(tmp_path / "network.py")
    assert torch.equal(module.encode(ROWS), TABLE.encode(ROWS)), "to the bit"
    assert torch.equal(module.encode([]), TABLE.encode([]))
    answers = expected(network, source)
    assert module.predict(ROWS) == (answers if source.classes else pytest.approx(answers))
    with pytest.raises(ValueError, match="column size: inf is not finite"):
        module.encode([{**ROWS[0], "size": "inf"}])


@pytest.mark.parametrize("outputs", [pytest.param(3, marks=pytest.mark.long), 1])
def test_a_file_of_rows_without_metanas(tmp_path: Path, outputs: int) -> None:
    table = Table(
        (Column("age", mean=41.25, std=12.5, median=40.0, missing=True), Column("town", words=("Köln", "Ulm")))
    )
    network = derived(SPACE, Architecture({"body": "skip"}), (table.width,), outputs, seed=1).eval()
    source = replace(made(outputs)[1], table=table, architecture=Architecture({"body": "skip"}))
    write(network, source, folder=tmp_path)
    (tmp_path / "rows.csv").write_text('id; "age";town\n1;50;"Köln"\n\n2;;Ulm\n3;20;Hof\n', encoding="utf-8-sig")
    command = [sys.executable, "-I", "-W", "error", str(tmp_path / "network.py")]
    done = subprocess.run([*command, str(tmp_path / "rows.csv")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [{"age": "50", "town": "Köln"}, {"age": "", "town": "Ulm"}, {"age": "20", "town": "Hof"}]
    with torch.no_grad():
        outputs_of = network(table.encode(rows))
    said = done.stdout.splitlines()
    if outputs == 1:
        assert [float(x) for x in said] == pytest.approx((outputs_of[:, 0] * 77.5 + 152.25).tolist())
    else:
        assert said == [source.classes[k] for k in outputs_of.argmax(1).tolist()]
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_the_layout_is_the_formatters(tmp_path: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for outputs in (3, 1):
        write(*made(outputs), folder=tmp_path, formats=["python"], name=f"network{outputs}")
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run([ruff, *command, "--isolated", "--no-cache", tmp_path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_rules_stand_in_every_file(tmp_path: Path) -> None:
    network, source = made(1)
    write(network, source, folder=tmp_path, formats=["json", "safetensors", "pt2"])
    facts = json.loads((tmp_path / "architecture.json").read_text())
    assert Table.from_json(facts["table"]) == TABLE and facts["scale"] == [152.25, 77.5] and facts["classes"] == []
    header = (tmp_path / "network.safetensors").read_bytes()
    assert b'"scale":"[152.25, 77.5]"' in header or b"[152.25,77.5]" in header


def test_a_table_of_another_network() -> None:
    network, source = made()
    with pytest.raises(ExportError, match=r"the table gives inputs \(1,\) and the network takes \(16,\)"):
        write(network, replace(source, table=Table((Column("age"),))), folder="nowhere")
    with pytest.raises(ExportError, match="scale must be"):
        replace(source, scale=(0.0, 0.0))
