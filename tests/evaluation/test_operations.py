"""Tables of operations, and the polynomial that they make: against built networks, NAS-Bench-201's table and means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from metanas.errors import RunError, SpaceError
from metanas.evaluation.additive_cost import additive
from metanas.evaluation.costs import ExactCost
from metanas.evaluation.operations import OperationTable
from metanas.evaluation.tables import ArchitectureTable
from metanas.network.blocks import Conv
from metanas.space import Op

COUNTED = ("parameters", "multiply_adds")
REFUSED = ("subsets", "nasbench101")
"""Spaces in which the width of a value depends on which inputs are taken."""
SMALL = {"one edge", "nested", "elastic", "recurrent"}
"""Additive spaces whose every assignment can be listed."""

NO_MEMORY = OperationTable.counted("parameters"), OperationTable.counted("multiply_adds")
"""Shared by the tests: operations are counted once."""


def counted(known) -> None:
    if known.module is not None:
        pytest.skip("a module of the user's own has no operations that could be counted one by one")
    if known.name == "darts S4":
        pytest.skip("its noises have numbers of their own, so each is counted anew; all else is as in darts")


def by_sums(known, what: str):
    return additive(known.build(), known.shape, known.outputs, NO_MEMORY[COUNTED.index(what)])


@pytest.mark.parametrize("what", COUNTED)
def test_sums_are_what_the_network_costs(known, what):
    counted(known)
    space, rng = known.build(), np.random.default_rng(1)
    of = NO_MEMORY[COUNTED.index(what)].of(space, known.shape, known.outputs)
    exact = ExactCost(space, known.shape, known.outputs, what)
    for _ in range(2):
        architecture = space.sample(rng)
        assert of(architecture) == exact(architecture)


@pytest.mark.parametrize("what", COUNTED)
def test_the_polynomial_is_that_sum_or_refused(known, what):
    counted(known)
    if known.name.startswith(REFUSED):
        with pytest.raises(SpaceError, match=r"are no sum over steps|cannot be summed") as caught:
            by_sums(known, what)
        assert "\n" not in str(caught.value)
        return
    found, rng, space = by_sums(known, what), np.random.default_rng(2), known.build()
    of = NO_MEMORY[COUNTED.index(what)].of(space, known.shape, known.outputs)
    for architecture in (space.sample(rng) for _ in range(10)):
        assert found(architecture) == of(architecture)


def test_all_of_nasbench201(benchmark_data, problems):
    table = ArchitectureTable.read(benchmark_data / "nasbench201.csv.gz", key="arch")
    space = problems.nasbench201(16, 5)
    parameters, multiply_adds = (additive(space, (3, 32, 32), 10, t) for t in NO_MEMORY)
    for name, place in table.places.items():
        architecture = space.parse(name)
        assert parameters(architecture) == table.columns["parameters"][place]
        assert multiply_adds(architecture) == round(table.columns["mega_multiply_adds"][place] * 1e6)


def weights_of(space, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return {
        c.name: torch.softmax(torch.randn(len(c.candidates), generator=generator).double(), 0)
        for c in space.choices
        if c.take == 1
    }


def test_the_expectation_is_the_mean_over_all_architectures(known):
    """Every assignment of all choices, by its probability; those that do not matter are dropped before it is priced."""
    if known.name not in SMALL:
        pytest.skip("too many architectures, or no sum")
    space, found = known.build(), by_sums(known, "multiply_adds")
    mix = weights_of(space, 5)
    total = 0.0
    for labels in itertools.product(*(c.candidates for c in space.choices)):
        chance = math.prod(float(mix[c.name][c.index(x)]) for c, x in zip(space.choices, labels, strict=True))
        taken = {c.name: (x,) for c, x in zip(space.choices, labels, strict=True)}
        total += chance * found(space.architecture(space.counting.active(taken)))
    assert float(found.expected(mix)) == pytest.approx(total, rel=1e-12)


def test_the_expectation_is_the_mean_of_samples(problems):
    """DARTS at uniform weights over what may be derived; five standard errors."""
    known = next(k for k in problems.KNOWN if k.name == "darts")
    space, rng = known.build(), np.random.default_rng(0)
    found = by_sums(known, "parameters")
    mix = {c.name: torch.tensor([float(x in c.options) for x in c.candidates]) for c in space.choices if c.take == 1}
    expected = float(found.expected({name: w.double() / w.sum() for name, w in mix.items()}))
    values = [found(space.sample(rng)) for _ in range(1500)]
    assert abs(np.mean(values) - expected) < 5 * np.std(values) / math.sqrt(len(values))
    assert expected == pytest.approx(found.mean, rel=1e-9)


@pytest.mark.parametrize("name", ["darts", "hierarchical", "elastic", "nested"])
def test_its_gradient_is_that_of_finite_differences(problems, name):
    known = next(k for k in problems.KNOWN if k.name == name)
    found = by_sums(known, "multiply_adds")
    mix = weights_of(known.build(), 1)
    names = list(mix)

    def scaled(*rows):
        return found.expected(dict(zip(names, rows, strict=True))) / found.mean

    assert torch.autograd.gradcheck(scaled, [mix[n].requires_grad_() for n in names], eps=1e-6, atol=1e-7)


def test_a_file_is_read_back_and_closed(tmp_path, problems):
    table, space = OperationTable.counted("parameters"), problems.nasbench201(channels=2)
    first = additive(space, (3, 8, 8), 10, table)
    table.save(tmp_path / "table.json")
    again = OperationTable.read(tmp_path / "table.json")
    assert again.rows == table.rows and again.find is None
    assert additive(space, (3, 8, 8), 10, again).terms == first.terms
    with pytest.raises(SpaceError, match=r"no row for conv\(width=4, kernel=3\) at \(3, 8, 8\)"):
        additive(problems.nasbench201(channels=4), (3, 8, 8), 10, again)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", RunError),
        ("[]", RunError),
        ("{}", SpaceError),
        ('{"schema": 2, "what": "parameters", "rows": []}', SpaceError),
        ('{"schema": 1, "what": "price", "rows": []}', SpaceError),
        ('{"schema": 1, "what": "parameters", "rows": [{"op": {"is": "Op"}}]}', SpaceError),
        ('{"schema": 1, "what": "parameters", "rows": [{"op": {"is": "Size"}, "shape": [], "gives": [], "cost": 1}]}',
         SpaceError),
    ],
)  # fmt: skip
def test_files_that_are_no_tables(tmp_path, text, error):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(error) as caught:
        OperationTable.read(tmp_path / "table.json")
    assert "\n" not in str(caught.value)


def test_latency_is_measured_once_for_each_operation_and_shape(problems):
    calls = []

    def slow(op, shape, phase):
        calls.append((op, shape))
        return Conv(shape[0], op.width, op, bias=True)

    from metanas.network import OPS

    table = OperationTable.measured(ops={**OPS, "preact_conv": slow}, passes=3)
    before = torch.get_rng_state()
    found = additive(problems.nasbench201(channels=2, cells=2), (3, 8, 8), 10, table)
    assert torch.equal(before, torch.get_rng_state())
    assert len(calls) == len(set(calls)) == 2 * 3  # two convolutions at three widths
    cheap, dear = (f"|{x}~0|+|{x}~0|{x}~1|+|{x}~0|{x}~1|{x}~2|" for x in ("none", "nor_conv_3x3"))
    space = problems.nasbench201(channels=2, cells=2)
    assert 0 < found(space.parse(cheap)) < found(space.parse(dear))
    assert table.to_json()["device"] == "cpu" and table.to_json()["batch"] == 1


def test_activations_that_a_training_keeps(problems):
    from metanas.evaluation.costs import activation_bytes
    from metanas.network import derived
    from metanas.network.memory import kept_bytes

    space = problems.nasbench201(channels=2)
    network = derived(space, space.sample(np.random.default_rng(0)), (3, 8, 8), 10).train()
    assert activation_bytes(network, (3, 8, 8), batch=4) == kept_bytes(network, torch.randn(4, 3, 8, 8))


def test_an_unknown_cost():
    with pytest.raises(SpaceError, match="unknown cost 'parametres'; did you mean \"parameters\""):
        OperationTable.counted("parametres")
    with pytest.raises(SpaceError, match="allowed: parameters, multiply_adds"):
        OperationTable.counted("latency_ms")
    with pytest.raises(SpaceError, match="has no row"):
        OperationTable("parameters").row(Op("conv"), (3, 4, 4))


def test_what_is_never_derived_is_no_way_out(problems):
    """`none` is mixed in DARTS's cells and never derived: weight on it must not make a network look cheap."""
    space = problems.darts()
    cost = additive(space, (3, 16, 16), 10, NO_MEMORY[0])
    kinds = [c for c in space.choices if c.take == 1]

    def expected(none: float) -> float:
        logits = torch.zeros(8).double()
        logits[5], logits[0] = 2.0, none
        return float(cost.expected({c.name: torch.softmax(logits, 0) for c in kinds}))

    assert kinds[0].candidates[0] == "none" and expected(0.0) == pytest.approx(expected(6.0), rel=1e-9)
    sigmoids = {c.name: torch.full((8,), 0.9).double() for c in kinds}  # do not sum to 1
    uniform = {c.name: torch.full((8,), 0.125).double() for c in kinds}
    assert float(cost.expected(sigmoids)) == pytest.approx(float(cost.expected(uniform)))
    assert float(cost.expected(uniform)) == pytest.approx(cost.mean)
    edges = {c.name: torch.softmax(torch.zeros(len(c.candidates)), 0).double() for c in space.choices if c.take == 2}
    assert float(cost.expected({**uniform, **edges})) == pytest.approx(cost.mean)  # PC-DARTS's weights of inputs
    drawn = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        drawn[0] = 1.0
    cost.expected({c.name: drawn for c in kinds}).backward()
    assert drawn.grad is not None and drawn.grad.isfinite().all()
