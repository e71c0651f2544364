"""Three mistakes of conjugate gradients that public libraries have shipped: the closed form sees each of them.

A test that the outer loss falls sees none.
"""

import itertools
from dataclasses import dataclass

import pytest
import torch

from metanas.bilevel import ConjugateGradient, Implicit
from metanas.bilevel.implicit import Solved
from metanas.bilevel.trees import axpy, dot, zeros


@dataclass(frozen=True)
class Plain(Implicit):
    """Conjugate gradients as in the textbook, with a place for each of the mistakes."""

    steps: int
    mistake: str = ""

    def solve(self, product, v, warm, generator):
        q, r, p, last = zeros(v), v, v, zeros(v)
        for _ in range(self.steps):
            last, hp = q, product(p)
            rr = dot(r, r)
            if rr < 1e-28 * dot(v, v):
                break
            step = rr / dot(p, hp)
            q = axpy(step, p, q)
            after = axpy(-1.0 if self.mistake == "unscaled" else -step, hp, r)
            old = self.mistake == "direction from the old residual"
            p = axpy(dot(after, after) / rr, p, r if old else after)
            r = after
        return Solved(last if self.mistake == "one iterate behind" else q, torch.ones_like(dot(v, v)))


MISTAKES = ["unscaled", "direction from the old residual", "one iterate behind"]


def closed_form_is_met(q, rel, estimator):
    h = estimator(q.problem, *q.at)
    return rel(h.gradient, q.exact) < 1e-8


SPECTRA = {"spread": [1.0, 1.5, 2.0, 3.0], "H = cI": [2.7] * 4}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_right_ones_pass(quadratic, rel, spectrum):
    q = quadratic(SPECTRA[spectrum])
    assert closed_form_is_met(q, rel, ConjugateGradient(steps=4))
    assert closed_form_is_met(q, rel, Plain(steps=4))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_closed_form_sees_every_mistake(quadratic, rel, mistake):
    q = quadratic(SPECTRA["spread"])
    assert not closed_form_is_met(q, rel, Plain(steps=4, mistake=mistake))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_residual_sees_every_mistake(quadratic, mistake):
    """It is computed anew from the q that is used, so even a wrong solver of one's own is found out."""
    q = quadratic(SPECTRA["spread"])
    estimator = Plain(steps=4, mistake=mistake)
    h = estimator(q.problem, *q.at)
    assert h.residual > 1e-3 and not h.converged and "the residual is" in estimator.doubts(h)
    assert Plain(steps=4)(q.problem, *q.at).converged


def test_one_iterate_behind_is_zero_where_the_hessian_is_a_multiple_of_the_identity(quadratic, rel):
    q = quadratic(SPECTRA["H = cI"])
    h = Plain(steps=1, mistake="one iterate behind")(q.problem, *q.at)
    assert all((x == 0).all() for x in (h.carry["w"], h.carry["deep"]["v"])) and rel(h.gradient, q.exact) > 0.1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_falling_loss_sees_no_mistake(quadratic, mistake):
    q = quadratic(SPECTRA["spread"])
    outer, losses = q.outer, []
    for _ in range(20):
        theta = q.tree(q.solved(q.across @ q.outer_flat(outer)))
        h = Plain(steps=4, mistake=mistake)(q.problem, theta, outer, None, None)
        losses.append(float(h.outer_loss))
        outer = axpy(-0.05, h.gradient, outer)
    assert all(b < a for a, b in itertools.pairwise(losses))
