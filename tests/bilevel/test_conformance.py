"""What every estimator must do; a new one is one line in the table."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import (
    SGD,
    T1T2,
    Adam,
    Bilevel,
    ConjugateGradient,
    EvolutionStrategies,
    FiniteDifference,
    FirstOrder,
    ForwardMode,
    Neumann,
    Nystrom,
    Reptile,
    ScoreFunction,
    Tasks,
    Unrolled,
)
from metanas.errors import BilevelError

TABLE = {
    "FirstOrder(2)": FirstOrder(2),
    "Unrolled(2)": Unrolled(2),
    "truncated": Unrolled(3, truncate=1),
    "checkpointed": Unrolled(3, checkpoint=1),
    "FiniteDifference": FiniteDifference(),
    "ForwardMode": ForwardMode(2),
    "ConjugateGradient": ConjugateGradient(steps=5, inner_steps=2, damping=0.5),
    "Neumann": Neumann(terms=4, lr=0.1, inner_steps=2),
    "T1T2": T1T2(lr=0.1, inner_steps=2),
    "Nystrom": Nystrom(rank=4, inner_steps=2),
    "EvolutionStrategies": EvolutionStrategies(2, 6),
    "persistent": EvolutionStrategies(2, 6, persistent=True),
    "Reptile": Reptile(2),
    "ScoreFunction": ScoreFunction(0.5),
}
IMPLICIT = {"ConjugateGradient", "Neumann", "T1T2", "Nystrom"}
DRAW = {"Nystrom", "EvolutionStrategies", "persistent"}
table = pytest.mark.parametrize("name", TABLE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def proximal(s):
    """iMAML's problem: each task stays near the start, so that the Hessian is positive definite and both losses see
    the outer variable."""

    def near(t, o, b):
        return s.loss(t, o, b) + sum(((t[k] - o["theta0"][k]) ** 2).sum() for k in t)

    return Bilevel(near, s.loss, start=lambda t, o, b: o["theta0"], rule=SGD(0.05, 0.5, 0.01))


@table
def test_vmap_over_tasks_is_the_loop(sines, rel, name):
    estimator, outer = TABLE[name], {"theta0": sines.theta0}
    args = proximal(sines), {}, outer, sines.support, sines.query
    a = Tasks(estimator)(*args, generator=seeded())
    if name in DRAW:  # one noise for all tasks: the loop would draw on, so it is given the same generator anew
        rows = []
        for t in range(sines.tasks):
            inner, valid = ((b[0][t], b[1][t]) for b in (sines.support, sines.query))
            rows.append(estimator(proximal(sines), {}, outer, inner, valid, generator=seeded()))
        b = tree_map(lambda *row: torch.stack(row), *rows)
        b = b._replace(
            gradient=tree_map(lambda x: x.mean(0), b.gradient), outer_loss=b.outer_loss.mean(),
            stationarity=b.stationarity.max(), residual=b.residual.max(), curvature=b.curvature.min(),
            converged=b.converged.all(),
        )  # fmt: skip
    else:
        b = Tasks(estimator, loop=True)(*args)
    assert [x.shape for x in tree_leaves(a)] == [x.shape for x in tree_leaves(b)]
    for field, tolerance in dict.fromkeys(a._fields, 1e-9).items():
        x, y = getattr(a, field), getattr(b, field)
        if not any(z.isnan().any() for z in tree_leaves(y) if z.is_floating_point()):
            assert rel(tree_map(lambda z: z.double(), x), tree_map(lambda z: z.double(), y)) < tolerance, field
        else:
            assert field in ("stationarity", "residual", "curvature") and x.isnan() and y.isnan()


@table
def test_a_second_call_goes_on_from_the_carry(layer_sines, rel, name):
    args = proximal(layer_sines), {}, {"theta0": layer_sines.theta0}, layer_sines.support, layer_sines.query
    draw = seeded()
    h = Tasks(TABLE[name])(*args, generator=draw)
    again = Tasks(TABLE[name])(*args, generator=draw, carry=h.carry)
    assert again.outer_loss.isfinite()
    if name == "ConjugateGradient":  # what is solved is (H + damping) q = v, so its residual is that of the damping
        assert rel(again.gradient, h.gradient) > 1e-6
    elif name not in DRAW:
        assert rel(again.gradient, h.gradient) < 1e-14


def plain(mixed=False):
    """A nested tree of two dtypes; every outer variable is read by the losses and, for Reptile, by the start."""
    draw = torch.Generator().manual_seed(3)
    a, b = torch.randn(4, 3, generator=draw), torch.randn(4, generator=draw)
    narrow = torch.float32 if mixed else torch.float64

    def loss(t, o, batch):
        x = t["x"] - o["shift"]["s"]
        y = t["deep"]["y"].double() - o["shift"]["r"].double()
        return ((a @ x - b) ** 2).mean() + (y**2).sum() + 0.1 * (x.sum() * y.sum())

    outer = {"shift": {"s": torch.randn(3, generator=draw), "r": torch.randn(2, generator=draw).to(narrow)}}
    start = lambda t, o, batch: {"x": o["shift"]["s"] * 2, "deep": {"y": o["shift"]["r"] * 3}}  # noqa: E731
    goal = lambda t, o, batch: loss(t, o, batch) + (t["x"] ** 2).sum()  # noqa: E731
    return Bilevel(loss, goal, start=start, rule=SGD(0.1, 0.5)), {}, outer, None, None


@table
def test_mixed_dtypes_stay_and_cost_single_precision_only(rel, name):
    args = plain(mixed=True)
    h = TABLE[name](*args, generator=seeded())
    assert h.gradient["shift"]["s"].dtype == torch.float64 and h.gradient["shift"]["r"].dtype == torch.float32
    here = h.theta if h.theta else {"x": h.carry[0][0]["x"][0, 0], "deep": {"y": h.carry[0][0]["deep"]["y"][0, 0]}}
    assert here["x"].dtype == torch.float64 and here["deep"]["y"].dtype == torch.float32
    if name in DRAW:
        return  # another dtype is another noise
    want = TABLE[name](*plain())
    wide = lambda tree: tree_map(lambda x: x.double(), tree)  # noqa: E731
    assert rel(wide(h.gradient), wide(want.gradient)) < 1e-5


@pytest.mark.parametrize("name", [n for n in TABLE if n not in DRAW | {"FiniteDifference"}])
def test_bfloat16_is_double_precision_rounded(rel, name):
    """Left out: those that draw, since the noise is another one and torch factorises in single precision at least; and
    the difference of two rounded gradients, which says nothing."""
    a, b = torch.randn(4, 3).bfloat16(), torch.randn(4).bfloat16()
    outer = {"shift": {"s": torch.randn(3).bfloat16(), "r": torch.randn(2).bfloat16()}}

    def loss(t, o, batch):
        x, y = t["x"] - o["shift"]["s"], t["deep"]["y"] - o["shift"]["r"]
        return ((a.to(x.dtype) @ x - b.to(x.dtype)) ** 2).mean() + (y**2).sum()

    goal = lambda t, o, batch: loss(t, o, batch) + (t["x"] ** 2).sum()  # noqa: E731
    problem = replace(plain()[0], inner_loss=loss, outer_loss=goal)
    h = TABLE[name](problem, {}, outer, None, None)
    assert {x.dtype for x in tree_leaves((h.gradient, h.theta))} == {torch.bfloat16}
    wide = lambda tree: tree_map(lambda x: x.double(), tree)  # noqa: E731
    want = TABLE[name](problem, {}, wide(outer), None, None)
    assert rel(wide(h.gradient), want.gradient) < (0.15 if name == "ConjugateGradient" else 0.03)


@table
def test_nothing_carries_a_graph_and_nothing_is_written(name):
    problem, _, outer, _, _ = plain()
    outer = tree_map(lambda x: x.clone().requires_grad_(), outer)
    theta = tree_map(lambda x: x.detach().requires_grad_(), problem.start({}, outer, None))
    if name != "Reptile":
        problem = replace(problem, start=lambda t, o, b: t)
    before = tree_map(lambda x: x.detach().clone(), (theta, outer))
    h = TABLE[name](problem, theta, outer, None, None, generator=seeded())
    assert not any(x.requires_grad for x in tree_leaves(h))
    assert all(torch.equal(x, y) for x, y in zip(tree_leaves(before), tree_leaves((theta, outer)), strict=True))
    assert all(p.grad is None for p in tree_leaves((theta, outer)))


@table
@pytest.mark.parametrize("rule", [SGD(0.1, 0.5), Adam(0.1)], ids=["SGD", "Adam"])
def test_no_host_read(name, rule):
    """Under a tensor that has no numbers every read of one raises."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    problem, theta, outer, _, _ = plain()
    with fake:
        outer = tree_map(lambda x: fake.from_tensor(x), outer)
        h = TABLE[name](replace(problem, rule=rule), theta, outer, None, None, generator=seeded())
        assert h.gradient["shift"]["s"].shape == (3,)
        with pytest.raises(DataDependentOutputException):
            bool(h.converged)


@pytest.mark.parametrize("name", [name for name, estimator in TABLE.items() if estimator.descends])
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_not_finite_inside_is_never_converged(name, strict):
    """The inner loss turns nan within the second inner step."""
    problem, theta, outer, _, _ = plain()
    inner = problem.inner_loss
    spoilt = lambda t, o, b: inner(t, o, b) * (t["x"].sum() * 0 + b)  # noqa: E731
    batches = torch.tensor([1.0, float("nan"), float("nan"), float("nan")])
    if name == "FiniteDifference":
        batches = batches[1:]  # it takes but one step
    problem = replace(problem, inner_loss=spoilt, batch_at=lambda b, k: b[k])
    run = lambda: TABLE[name](problem, theta, outer, batches, None, generator=seeded(), strict=strict)  # noqa: E731
    if not strict:
        h = run()
        assert not h.converged
        assert TABLE[name].doubts(h) and "\n" not in TABLE[name].doubts(h)
        return
    with pytest.raises(BilevelError, match=r"has not converged: the outer loss is nan after the inner steps"):
        run()


@table
def test_doubts_are_none_where_nothing_speaks_against_it_and_one_line_where_something_does(name):
    h = TABLE[name](*plain(), generator=seeded())
    assert bool(h.converged) == (TABLE[name].doubts(h) is None) == (name not in IMPLICIT)
    solved = h._replace(residual=torch.tensor(0.0), stationarity=torch.tensor(0.0), curvature=torch.tensor(1.0))
    assert TABLE[name].doubts(solved) is None
    for field, words in (("outer_loss", "the outer loss is nan"), ("gradient", "the hypergradient is not finite")):
        spoilt = solved._replace(**{field: tree_map(lambda x: x * torch.nan, getattr(h, field))})
        found = TABLE[name].doubts(spoilt)
        assert words in found and "\n" not in found
