"""Guards: when they speak and what they say; a search that one ends, back to which omega, and how it is resumed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch

from metanas.controllers import Darts, DartsPt, DrNas, Gdas, PcDarts
from metanas.controllers.perturbation import most_missed
from metanas.errors import SpaceError
from metanas.loop import Decided, EigenvalueGrowth, Guard, Health, Probe, SkipShare, Verdict
from metanas.run.checkpoints import load, save


def seen(*, shares=(), entropies=(), eigenvalues=()):
    """What epochs say, from epoch 3 on."""
    count = max(map(len, (shares, entropies, eigenvalues)))
    column = lambda given, usual: list(given) or [usual] * count  # noqa: E731
    rows = zip(column(entropies, 1.0), column(shares, None), column(eigenvalues, None), strict=True)
    return [Health(epoch, *row) for epoch, row in enumerate(rows, 3)]


def test_too_many_skips_end_a_search_with_the_last_epoch_that_had_fewer():
    guard = SkipShare(most=0.5)
    assert guard(seen(shares=[0.0, 0.4])) is None and guard(seen(shares=[None])) is None
    assert guard(seen(shares=[0.2, 0.4, None, 0.6])) == Verdict(4, "skip share 0.60 reached 0.5")
    stays = Verdict(4, "skip share 1.00 reached 0.5, and no epoch had less to go back to")
    assert guard(seen(shares=[0.5, 1.0])) == stays, "where none had fewer omega stays"
    assert SkipShare(most=0.5, roll_back=False)(seen(shares=[0.2, 0.6])).epoch == 4


def test_weights_that_are_decided_end_a_search_where_it_is():
    assert Decided(least=0.1)(seen(entropies=[0.05, 0.11])) is None
    assert Decided(least=0.1)(seen(entropies=[0.5, 0.1])) == Verdict(4, "entropy 0.1000 fell to 0.1: all is decided")


def test_the_eigenvalue_may_grow_so_much_and_no_more():
    """By hand: windows of 2, compared 3 epochs apart; 1, 2 | 3, 4 has the means 1.5 and 3.5 with 1.5 in between."""
    guard = EigenvalueGrowth(growth=2.0, window=2, earlier=3)
    assert guard(seen(eigenvalues=[1.0, 2.0, 1.0, 3.0])) is None, "too few epochs"
    assert guard(seen(eigenvalues=[1.0, 2.0, 9.0, 2.0, 4.0])) is None, "exactly twice is allowed"
    verdict = guard(seen(eigenvalues=[1.0, 2.0, 9.0, 3.0, 4.0]))
    assert verdict.epoch == 4 and "grew by 2.33 in 3 epochs, allowed is 2 (mean over 2: 1.5 to 3.5)" in verdict.reason
    assert EigenvalueGrowth(growth=2.0, window=2, earlier=3, roll_back=False)(
        seen(eigenvalues=[1.0, 2.0, 9.0, 3.0, 4.0])
    ).epoch == 7  # fmt: skip
    assert guard(seen(eigenvalues=[-1.0, -2.0, 0.0, 3.0, 4.0])) is None, "growth from below 0 is no factor"
    assert guard(seen(eigenvalues=[1.0, None, 2.0, 9.0, 3.0, 4.0])).epoch == 5, "an epoch without one does not count"


def test_the_papers_rule_needs_nine_epochs():
    guard = EigenvalueGrowth()
    assert (guard.growth, guard.window, guard.earlier) == (1.3, 5, 4)
    flat = [1.0] * 5
    assert guard(seen(eigenvalues=[*flat, 9.0, 9.0, 9.0])) is None
    assert guard(seen(eigenvalues=[*flat, 1.0, 1.0, 1.0, 2.4])) is None, "a mean of 1.28"
    assert guard(seen(eigenvalues=[*flat, 1.0, 1.0, 1.0, 2.6])).epoch == 7, "a mean of 1.32"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SkipShare(most=0.0),
        lambda: SkipShare(most=1.1),
        lambda: Decided(least=1.0),
        lambda: Decided(least=-0.1),
        lambda: EigenvalueGrowth(growth=1.0),
        lambda: EigenvalueGrowth(window=0),
    ],
)
def test_numbers_that_cannot_be(make):
    with pytest.raises(SpaceError, match="must be"):
        make()


@dataclass(frozen=True)
class Ends(Guard):
    """Ends a search with its epoch `at`, back to `to`; looks at the eigenvalue."""

    at: int
    to: int

    @property
    def probe(self):
        return Probe(examples=8, steps=99)

    def __call__(self, past):
        return Verdict(self.to, "so it was said") if past[-1].epoch == self.at else None


def run(search):
    """The reports of a search, and omega at the end of each epoch, before it goes back."""
    reports, omegas = [], []
    for step in search.steps():
        if step.report:
            reports.append(step.report)
            omegas.append({name: x.detach().clone() for name, x in search.relaxed.omega.items()})
    return reports, omegas


def test_a_verdict_ends_the_search_with_omega_as_it_was(tiny):
    free, omegas = run(tiny.search(epochs=6, warmup=1))
    search = tiny.search(epochs=6, warmup=1, guards=(Ends(at=4, to=2),))
    reports, _ = run(search)
    assert [r.epoch for r in reports] == [1, 2, 3, 4] and search.step == 4 * search.per_epoch < search.total
    assert [r.verdict for r in reports] == [None, None, None, Verdict(2, "so it was said")]
    assert all(torch.equal(search.relaxed.omega[name], x) for name, x in omegas[1].items())
    assert not all(torch.equal(search.relaxed.omega[name], x) for name, x in omegas[3].items())
    assert [(r.weights, r.inner_loss) for r in reports] == [(r.weights, r.inner_loss) for r in free[:4]]
    assert list(search.steps()) == [], "over is over"
    assert search.derive() == search.controller.preview(search.space, omegas[1])


def test_the_weights_of_the_supernet_stay_those_of_the_last_epoch(tiny):
    search, free = tiny.search(epochs=6, warmup=1, guards=(Ends(at=4, to=2),)), tiny.search(epochs=6, warmup=1)
    run(search)
    for step in free.steps():
        if step.step == search.step:
            break
    assert all(torch.equal(search.theta[name], x) for name, x in free.theta.items())


def test_a_warm_up_says_nothing_about_omega(tiny):
    search = tiny.search(epochs=3, warmup=2, guards=(Ends(at=1, to=1),))
    reports, _ = run(search)
    assert len(reports) == 3 and [h.epoch for h in search.watch.past] == [3]
    assert [r.eigenvalue is None for r in reports] == [True, True, False]


def test_nothing_is_kept_or_measured_where_nobody_asks(tiny):
    search = tiny.search(guards=())
    reports, _ = run(search)
    assert search.watch.kept == [] and all(r.eigenvalue is None and r.skip_share is not None for r in reports)
    fixed = tiny.search(controller=DartsPt(), guards=(Ends(at=1, to=1),))
    assert len(run(fixed)[0]) == 3 and fixed.watch.past == []


@pytest.mark.parametrize("controller", [Darts(scale=1.0), DrNas(scale=1.0)], ids=str)
def test_the_eigenvalue_is_that_of_the_whole_hessian(tiny, controller):
    """Of the supernet's loss on the first examples of the outer split, in float64, as torch writes it out."""
    search = tiny.search(controller=controller, epochs=1, guards=(Ends(at=9, to=9),))
    ((report,), _), omega = run(search), search.relaxed.omega
    outer, sizes = search.data.outer, [len(x) for x in omega.values()]

    def flat(vector):
        mix = controller.mean(dict(zip(omega, vector.split(sizes), strict=True)))
        return search.task.loss(search.network(outer.inputs[:8], mix=mix), outer.targets[:8])

    whole = torch.autograd.functional.hessian(flat, torch.cat(list(omega.values())).detach())
    assert report.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-8)
    assert report.eigenvalue > 0


def test_a_guard_does_not_change_the_numbers_of_a_search(tiny):
    """Also not by measuring."""
    free, watched = (run(tiny.search(controller=DrNas(), guards=guards)) for guards in ((), (Ends(at=9, to=9),)))
    assert [(r.inner_loss, r.outer_loss, r.weights) for r in free[0]] == [
        (r.inner_loss, r.outer_loss, r.weights) for r in watched[0]
    ]
    assert all(math.isfinite(r.eigenvalue) for r in watched[0])


def test_a_guarded_search_resumes_after_every_step(tiny, tmp_path):
    make = lambda: tiny.search(epochs=4, guards=(Ends(at=3, to=2),))  # noqa: E731
    search, curve = make(), []
    for step in search.steps():
        curve.append((step.step, float(step.inner_loss), repr(step.report)))
        save(tmp_path / str(step.step), step.step, search.state(), 0)
    end = copy.deepcopy(search.state())
    for k in range(1, len(curve) + 1):
        again = make()
        again.restore(load(tmp_path / str(k)).tree)
        assert [(s.step, float(s.inner_loss), repr(s.report)) for s in again.steps()] == curve[k:]
        assert again.watch.verdict == search.watch.verdict and again.watch.past == search.watch.past
        assert all(torch.equal(a, b) for a, b in zip(again.watch.kept, search.watch.kept, strict=True))
        assert all(torch.equal(x, end["omega"][name]) for name, x in again.relaxed.omega.items())
        assert again.derive() == search.derive()


def test_a_checkpoint_that_knows_no_guards_goes_on(tiny):
    search = tiny.search()
    next(search.steps())
    old = {name: value for name, value in copy.deepcopy(search.state()).items() if name != "watch"}
    again = tiny.search()
    again.restore(old)
    assert len(list(again.steps())) == search.total - 1 and again.watch.past == []


def handed_over(tiny, controller=None):
    """A search that `DartsPt` takes over after its third epoch of six."""
    return tiny.search(controller=controller, epochs=6, warmup=1, guards=(Ends(at=3, to=2),), instead=DartsPt())


def test_another_controller_goes_on_where_a_guard_speaks(tiny):
    search, free = handed_over(tiny), tiny.search(epochs=6, warmup=1)
    (reports, omegas), (before, _) = run(search), run(free)
    assert [(r.weights, r.inner_loss) for r in reports[:3]] == [(r.weights, r.inner_loss) for r in before[:3]]
    assert [r.instead for r in reports] == [None, None, "DartsPt", None, None, None]
    assert [r.verdict is None for r in reports] == [True, True, False, True, True, True], "it is not asked again"
    assert search.step == search.total and not search.ended
    assert all(not x.any() for omega in omegas[3:] for x in omega.values()), "uniform weights to the end"
    assert [r.outer_loss is None for r in reports] == [True, False, False, True, True, True]
    assert [r.architecture is None for r in reports] == [False] * 3 + [True] * 3


def test_the_one_that_goes_on_derives(tiny):
    search = handed_over(tiny, DrNas(lr=0.1))
    run(search)
    weights = {name: torch.full((len(x),), 1 / len(x)) for name, x in search.relaxed.omega.items()}
    assert search.derive() == most_missed(search.space, weights, lambda mix: search.score(mix)[0])


def test_it_trains_the_weights_at_uniform_mixtures(tiny):
    """As a search that begins as this one does, and whose omega is put to its beginning by hand."""
    search, twin = handed_over(tiny), tiny.search(epochs=6, warmup=1)
    run(search)
    for step in twin.steps():
        if step.step == 3 * twin.per_epoch:
            break
    state = copy.deepcopy(twin.state())
    state["omega"] = {name: torch.zeros_like(x) for name, x in state["omega"].items()}
    fixed = tiny.search(controller=DartsPt(), epochs=6, warmup=1)
    fixed.restore(state)
    list(fixed.steps())
    assert all(torch.equal(search.theta[name], x) for name, x in fixed.theta.items())


@pytest.mark.parametrize("after", [1, 3, 4, 5])
def test_what_was_handed_over_resumes(tiny, tmp_path, after):
    whole = handed_over(tiny)
    run(whole)
    cut = handed_over(tiny)
    for step in cut.steps():
        if step.step == after * cut.per_epoch:
            break
    save(tmp_path, 1, cut.state(), 0)
    again = handed_over(tiny)
    again.restore(load(tmp_path).tree)
    assert again.controller.fixed is (after >= 3)
    list(again.steps())
    assert all(torch.equal(again.theta[name], x) for name, x in whole.theta.items())
    assert again.derive() == whole.derive()


@pytest.mark.parametrize(
    ("controller", "instead", "words"),
    [
        (Gdas(), DartsPt(), "instead: the supernet of Gdas is not trained as DartsPt needs it; leave it out"),
        (
            PcDarts(parts=2),
            DartsPt(),
            "instead: the supernet of PcDarts is not trained as DartsPt needs it; leave it out",
        ),
        (Darts(), DrNas(), "instead: DrNas learns omega, which would not stay where it begins; take DartsPt"),
    ],
)
def test_what_cannot_go_on_is_refused(tiny, controller, instead, words):
    with pytest.raises(SpaceError) as caught:
        tiny.search(controller=controller, instead=instead)
    assert str(caught.value) == words


def test_what_has_let_candidates_go_cannot_go_on_so(tiny):
    with pytest.raises(SpaceError, match="instead: DartsPt would derive what shrink_to has let go of"):
        tiny.search(instead=DartsPt(), shrink_to=2)


def test_after_the_last_epoch_nothing_is_handed_over(tiny):
    search = tiny.search(epochs=3, warmup=1, guards=(Ends(at=3, to=2),), instead=DartsPt())
    reports, _ = run(search)
    assert reports[-1].verdict == Verdict(2, "so it was said") and reports[-1].instead is None
    assert not search.controller.fixed and any(x.any() for x in search.relaxed.omega.values())
