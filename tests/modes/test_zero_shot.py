"""Zero-shot learners: `Tasks` against the loop, by hand, compositions never seen, and the faults in one line."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import Tasks, restart, solve, torch_step
from metanas.errors import BilevelError, DataError
from metanas.modes import (
    Described,
    Queries,
    answer,
    describer,
    generalised,
    one_hot,
    softmax_structure,
    stacking,
    zero_shot,
)

TASKS, WAYS, EXAMPLES, D, WIDTH = 3, 4, 10, 5, 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, WIDTH)
    ).double()


def told(d: int = D, width: int = WIDTH, **more) -> nn.Module:
    torch.manual_seed(1)
    return describer(d, width, **more).double()


@pytest.fixture
def tasks():
    """The batches of three tasks, float64."""
    draw = torch.Generator().manual_seed(2)
    descriptions = torch.randn(TASKS, WAYS, D, generator=draw, dtype=torch.float64)
    images = torch.randn(TASKS, EXAMPLES, 1, 6, 6, generator=draw, dtype=torch.float64)
    labels = torch.randint(WAYS, (TASKS, EXAMPLES), generator=draw)
    return Described(descriptions), Queries(images, one_hot(labels, WAYS).double(), images), labels


@pytest.mark.parametrize("likeness", ["cosine", "distance"])
def test_vmap_is_the_loop(tasks, likeness):
    classes, queries, _ = tasks
    learner = zero_shot(network(), told(), likeness=likeness)
    args = (learner.problem, {}, learner.outer, classes, queries)
    a, b = Tasks(learner.estimator)(*args), Tasks(learner.estimator, loop=True)(*args)
    for x, y in zip(tree_leaves((a.gradient, a.outer_loss)), tree_leaves((b.gradient, b.outer_loss)), strict=True):
        assert torch.allclose(x, y, rtol=1e-10, atol=1e-12)
    assert all(x.abs().max() > 1e-6 for x in tree_leaves(a.gradient)), "both parts learn"


@pytest.mark.parametrize("likeness", ["cosine", "distance"])
def test_it_is_what_torch_makes_of_the_modules(tasks, likeness):
    """The loss and the gradient of one task by torch.autograd on the modules themselves."""
    classes, queries, labels = tasks
    f, g = network(), told()
    learner = zero_shot(f, g, likeness=likeness, temperature=7.0)
    centres, rows = F.normalize(g(classes.descriptions[0]), dim=1), f(queries.images[0])
    near = 7 * F.cosine_similarity(rows[:, None], centres, dim=2)
    scores = near if likeness == "cosine" else -torch.cdist(rows, centres).square()
    loss = F.cross_entropy(scores, labels[0])
    wanted = dict(f.named_parameters()), dict(g.named_parameters())
    slopes = iter(torch.autograd.grad(loss, tree_leaves(wanted)))
    batches = tree_map(lambda x: x[0] if isinstance(x, torch.Tensor) else x, (classes, queries))
    h = learner.estimator(learner.problem, {}, learner.outer, *batches)
    assert torch.allclose(h.outer_loss, loss.detach(), rtol=1e-10)
    for part, module in zip(("weights", "describer"), wanted, strict=True):
        for name in module:
            assert torch.allclose(h.gradient[part][name], next(slopes), rtol=1e-8, atol=1e-12), name


def test_an_inductive_answer_rests_on_the_given_statistics(tasks):
    classes, queries, _ = tasks
    learner = zero_shot(network(), told())
    images = queries.images[0]
    seen = learner.statistics({}, learner.outer, images)
    given = Described(classes.descriptions[0], seen)
    alone = torch.cat([answer(learner, learner.outer, given, image[None]) for image in images])
    together = answer(learner, learner.outer, given, images)
    assert torch.allclose(alone, together, atol=1e-12)
    assert torch.allclose(together, answer(learner, learner.outer, given, images, transductive=True), atol=1e-10)
    assert not torch.allclose(together[:3], answer(learner, learner.outer, given, images[:3], transductive=True))


def test_the_modules_stay_as_they_were(tasks):
    f, g = network(), told()
    before = copy.deepcopy((f.state_dict(), g.state_dict()))
    learner = zero_shot(f, g)
    with torch.no_grad():
        for p in tree_leaves(learner.outer):
            p.add_(1)
    after = f.state_dict(), g.state_dict()
    assert all(torch.equal(x, y) for x, y in zip(tree_leaves(before), tree_leaves(after), strict=True))


def test_a_structure_is_learned_with_it(tasks):
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.ways = nn.ModuleList(nn.Linear(36, WIDTH) for _ in range(2))

        def forward(self, x, mix):
            return sum(w * way(x.flatten(1)) for w, way in zip(mix["way"], self.ways, strict=True))

    structure = softmax_structure({"way": 2})
    learner = zero_shot(Chooses().double(), told(), structure=structure)
    outer = {**learner.outer, "structure": {"way": torch.zeros(2, dtype=torch.float64)}}
    h = Tasks(learner.estimator)(learner.problem, {}, outer, *tasks[:2])
    assert learner.mixes and h.gradient["structure"]["way"].abs().max() > 1e-6


def corners(each: int, noise: float, draw: torch.Generator):
    """Images that show a corner of a cube, twisted: (16, each, 1, 4, 4); descriptions (16, 4)."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    clean = torch.tanh(signs @ torch.randn(4, 16, generator=torch.Generator().manual_seed(3))).view(16, 1, 1, 4, 4)
    return clean + noise * torch.randn(16, each, 1, 4, 4, generator=draw), signs


def test_it_learns_compositions_that_it_never_saw():
    draw = torch.Generator().manual_seed(4)
    images, signs = corners(40, 0.3, draw)
    known, new = torch.tensor([0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 15]), torch.tensor([3, 6, 9, 12])
    torch.manual_seed(0)
    embedding = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    learner = zero_shot(embedding, describer(4, 8, hidden=0))
    outer = tree_map(torch.Tensor.requires_grad_, learner.outer)

    def batches(steps):
        for _ in range(steps):
            of = torch.randint(12, (2, 32), generator=draw)
            rows = images[known[of], torch.randint(40, (2, 32), generator=draw)]
            yield None, Described(signs[known].expand(2, 12, 4)), Queries(rows, one_hot(of, 12), rows)

    step = torch_step(torch.optim.Adam(tree_leaves(outer), 0.01, fused=True), outer)
    options = {"outer_step": step, "advance": restart}
    losses = [
        float(h.outer_loss)
        for h in solve(learner.problem, Tasks(learner.estimator), {}, outer, batches(150), **options)
    ]
    assert losses[-1] < losses[0] / 4
    with torch.no_grad():
        scores = answer(learner, outer, Described(signs[new]), images[new].flatten(0, 1))
    assert (scores.argmax(1) == torch.arange(4).repeat_interleave(40)).double().mean() > 0.9


def test_generalised_by_hand():
    """Three seen examples, all right; of two unseen classes (3 and 1 examples) all go to the seen one, by 1 or by 3."""
    seen = torch.tensor([True, False, False])
    scores = torch.tensor([[9.0, 0, 0]] * 3 + [[3.0, 2, 0], [3.0, 2, 0], [3.0, 0, 2], [4.0, 0, 1]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    assert generalised(scores, labels, seen) == (1.0, 0.0, 0.0)
    unseen = (2 / 3 + 0) / 2
    result = generalised(scores, labels, seen, off=1.5)
    assert (result.seen, result.unseen) == (1.0, pytest.approx(unseen))
    assert result.harmonic == pytest.approx(2 * unseen / (1 + unseen))
    off = stacking(scores, labels, seen)
    assert generalised(scores, labels, seen, off=off) == (1.0, pytest.approx(5 / 6), pytest.approx(10 / 11))


def test_stacking_takes_nothing_off_what_is_right_already():
    scores = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert stacking(scores, torch.tensor([0, 1]), torch.tensor([True, False])) == 0.0


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"likeness": "cosin"}, "likeness must be cosine or distance, got 'cosin'; did you mean \"cosine\"?"),
            ({"temperature": -1.0}, "temperature must be > 0, got -1.0"),
            ({"structure": softmax_structure({"a": 2}, adapts=True)}, "give a structure that is shared"),
            ({"network": nn.Flatten()}, "the network has no parameters to learn"),
            ({"describer": nn.Identity()}, "the describer has no parameters to learn"),
            ({"describer": nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))}, "the describer has a batch norm"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_on_making(self, more, said):
        with pytest.raises(BilevelError) as error:
            zero_shot(**{"network": network(), "describer": told(), **more})
        assert said in str(error.value) and "\n" not in str(error.value)

    def test_widths_that_differ(self, tasks):
        learner = zero_shot(network(), told(width=7))
        with pytest.raises(BilevelError, match="embeds into 6 numbers, the describer into 7"):
            Tasks(learner.estimator)(learner.problem, {}, learner.outer, *tasks[:2])

    def test_no_statistics(self, tasks):
        classes, queries, _ = tasks
        learner, told_of = zero_shot(network(), told()), Described(classes.descriptions[0])
        with pytest.raises(BilevelError, match="give those of the training classes"):
            answer(learner, learner.outer, told_of, queries.images[0])

    def test_none_are_needed_without_batch_norms(self, tasks):
        classes, queries, _ = tasks
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Flatten(), nn.Linear(36, WIDTH)).double()
        learner = zero_shot(plain, told())
        scores = answer(learner, learner.outer, Described(classes.descriptions[0]), queries.images[0])
        assert scores.shape == (EXAMPLES, WAYS)

    @pytest.mark.parametrize("given", [(0, 3), (3, 0)])
    def test_a_describer_of_nothing(self, given):
        with pytest.raises(BilevelError, match="must be >= 1, got 0"):
            describer(*given)

    def test_examples_of_one_side_only(self):
        with pytest.raises(DataError, match="2 of 2 examples are of seen classes: some of both are needed"):
            generalised(torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([True, False]))
        with pytest.raises(DataError, match="one `seen` for each class"):
            generalised(torch.zeros(2, 3), torch.tensor([0, 0]), torch.tensor([True, False]))
