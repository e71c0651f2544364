"""Decays found through a hypernetwork, beside grid and random search by actual training, on scikit-learn's digits.

    python benchmarks/hypernetwork.py --seeds 0 1 2 3 4

An MLP 64-16-10 (tanh) on 150 training images; 450 validation images choose the decays, the other 1197 test once. The
hyperparameters are logarithms of decays of squared weights: one for all weights, or 67 (one for the weights of each
pixel, one for each of the other three tensors).

    alternate     `modes.hypernetwork`: h linear, psi trained on phi plus noise, phi moved in turn; 67 decays begin
                  where the one decay ended, and their seconds are those of both
    global        psi trained on phi drawn from the grid's whole range, h with a tanh layer; then phi descends, psi held
    grid          a training from scratch for each of 17 values of one decay
    random        trainings from scratch with decays drawn from the grid's range, for as long as alternate took

A training from scratch is 400 full-batch steps of Adam (rate 0.01) from a seeded start. What a search found is trained
once more from another start: validation and test losses are those of that training, and so are comparable. "Told" is
the validation loss that the search itself believed in at what it found.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

from metanas.bilevel import Bilevel, FirstOrder, Tree, restart, solve, torch_step, train
from metanas.modes import Stateless, meta_parameter
from metanas.modes.hypernetworks import Hypernetwork, hypernetwork

LOW, HIGH = -14.0, 0.0
"""The range of the logarithms, natural."""
GRID = 17
TRAINED, RATE = 400, 0.01
FIRST = -4.0
"""Where one decay starts."""
Found = tuple[Tensor, float]
"""(logarithms of decays (n,), the validation loss that the search believed in)"""


def digits(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x, y = torch.from_numpy(data.data[order]).float() / 16, torch.from_numpy(data.target[order])
    return {"train": (x[:150], y[:150]), "val": (x[150:600], y[150:600]), "test": (x[600:], y[600:])}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def penalty(theta: Tree, phi: Tree) -> Tensor:
    """One logarithm (1,), or 64 of the pixels and one for each other tensor (67,)."""
    decay = phi["decay"].exp()
    rest = torch.stack([theta[name].square().sum() for name in ("0.bias", "2.weight", "2.bias")])
    pixels = theta["0.weight"].square().sum(0)  # (64,)
    return (decay * torch.cat([pixels, rest])).sum()


def problem_of(model: nn.Module) -> Bilevel:
    return meta_parameter(model, penalty=penalty)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def from_scratch(phi: Tensor, data: Any, seed: int) -> dict[str, Tensor]:
    """Loss on the validation rows, loss and accuracy on the test rows, of one training."""
    model = network(seed)
    problem = problem_of(model)
    theta = weights(model)
    advance = train(
        problem, theta, {"decay": phi}, torch.optim.Adam([p.requires_grad_() for p in theta.values()], RATE, fused=True)
    )
    advance(None, [data["train"]] * TRAINED)
    call = Stateless(model)
    with torch.no_grad():
        out, test = call(theta, data["val"][0]), call(theta, data["test"][0])
        return {
            "val": F.cross_entropy(out, data["val"][1]),
            "test": F.cross_entropy(test, data["test"][1]),
            "accuracy": 100 * (test.argmax(1) == data["test"][1]).float().mean(),
        }


def grid(data: Any, seed: int, n: int) -> Found:
    tried = [(float(from_scratch(torch.full((1,), at), data, seed)["val"]), at) for at in np.linspace(LOW, HIGH, GRID)]
    least, at = min(tried)
    return torch.full((n,), at), least


def random(data: Any, seed: int, n: int, seconds: float) -> Found:
    draw, begun = torch.Generator().manual_seed(seed), time.perf_counter()
    best: Found = torch.zeros(n), math.inf
    while time.perf_counter() - begun < seconds:
        phi = LOW + (HIGH - LOW) * torch.rand(n, generator=draw)
        loss = float(from_scratch(phi, data, seed)["val"])
        best = (phi, loss) if loss < best[1] else best
    return best


def alternate(data: Any, seed: int, n: int, steps: int = 600, noise: float = 0.5) -> Found:
    """Two steps of psi, then one of phi; phi stays in the grid's range. Both rates fall as a cosine."""
    first = FIRST if n == 1 else float(alternate(data, seed, 1)[0])
    model = network(seed)
    phi = {"decay": torch.full((n,), first, requires_grad=True)}
    h = Hypernetwork(weights(model), {"decay": torch.full((n,), first)}, width=3.0)
    problem, psi = hypernetwork(problem_of(model), h), {name: x.requires_grad_() for name, x in h.first().items()}
    draw = torch.Generator().manual_seed(seed)
    optimizers = torch.optim.Adam(psi.values(), RATE, fused=True), torch.optim.Adam(phi.values(), 0.05, fused=True)
    falls = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) for optimizer in optimizers]
    advance, step = train(problem, psi, phi, optimizers[0]), torch_step(optimizers[1], phi)
    done = 0

    def move(gradient: Tree) -> None:
        nonlocal done
        done += 1
        if done > 100:  # before, psi knows nothing of phi
            within(step, phi, gradient)

    batches = (
        ([(data["train"], noise * torch.randn(4, n, generator=draw)) for _ in range(2)], None, data["val"])
        for _ in range(steps)
    )
    told = math.nan
    for f in solve(problem, FirstOrder(), psi, phi, batches, outer_step=move, advance=advance, order="advance"):
        told = float(f.outer_loss)
        falls[0].step()
        if done > 100:
            falls[1].step()
    return phi["decay"].detach(), told


def within(step: Callable[[Tree], Any], phi: Tree, gradient: Tree) -> None:
    """A step that ends in the grid's range."""
    step(gradient)
    with torch.no_grad():
        phi["decay"].clamp_(LOW, HIGH)


def everywhere(data: Any, seed: int, n: int, steps: int = 1500) -> Found:
    """The method called global."""
    model = network(seed)
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    phi = {"decay": torch.full((n,), middle)}
    h = Hypernetwork(weights(model), phi, width=half, hidden=32)
    problem = hypernetwork(problem_of(model), h)
    draw = torch.Generator().manual_seed(seed)
    psi = {name: x.requires_grad_() for name, x in h.first(generator=draw).items()}
    optimizer = torch.optim.Adam(psi.values(), RATE, fused=True)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    advance = train(problem, psi, phi, optimizer)
    for _ in range(steps):
        advance(None, [(data["train"], half * (2 * torch.rand(8, n, generator=draw) - 1))])
        falls.step()
    psi = {name: x.detach() for name, x in psi.items()}
    phi = {"decay": torch.full((n,), FIRST, requires_grad=True)}
    step = torch_step(torch.optim.Adam(phi.values(), 0.1, fused=True), phi)

    batches = [(None, None, data["val"])] * 200
    told, move = math.nan, lambda gradient: within(step, phi, gradient)
    for f in solve(problem, FirstOrder(), psi, phi, batches, outer_step=move, advance=restart):  # psi stays
        told = float(f.outer_loss)
    return phi["decay"].detach(), told


def timed(search: Callable[..., Found], *arguments: Any) -> tuple[Found, float]:
    begun = time.perf_counter()
    return search(*arguments), time.perf_counter() - begun


def interval(values: list[float], digits: int) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)) if values[1:] else 0
    return f"{np.mean(values):.{digits}f} +- {half:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        data = digits(seed)
        for n in (1, 67):
            searches: dict[str, Callable[..., Found]] = {"alternate": alternate, "global": everywhere, "grid": grid}
            if n > 1:
                del searches["grid"]  # the same as with one decay
            seconds = 0.0
            for name, search in {**searches, "random": random}.items():
                arguments = (data, seed, n, seconds) if name == "random" else (data, seed, n)
                (phi, told), taken = timed(search, *arguments)
                seconds = taken if name == "alternate" else seconds
                scores = {key: float(x) for key, x in from_scratch(phi, data, 1000 + seed).items()}
                label = f"{name}, {n} decay{'s' if n > 1 else ''}"
                rows.setdefault(label, []).append({**scores, "told": told, "seconds": taken, "phi": float(phi.mean())})
                print(
                    f"  seed {seed} {label}: " + ", ".join(f"{k} {v:.4g}" for k, v in rows[label][-1].items()),
                    flush=True,
                )
    print("\n| search | log decay, mean | told | validation loss | test loss | test accuracy | seconds |")
    print("|---|---|---|---|---|---|---|")
    for label, each in rows.items():
        cells = [(key, 2 if key in ("phi", "accuracy") else 1 if key == "seconds" else 4) for key in
                 ("phi", "told", "val", "test", "accuracy", "seconds")]  # fmt: skip
        print(
            f"| {label} | " + " | ".join(interval([one[key] for one in each], digits) for key, digits in cells) + " |"
        )
    base = rows["grid, 1 decay"]
    print("\n| minus grid | validation loss | test loss | test accuracy |\n|---|---|---|---|")
    for label, each in rows.items():
        if each is not base:
            cells = [("val", 4), ("test", 4), ("accuracy", 2)]
            differences = [
                interval([a[key] - b[key] for a, b in zip(each, base, strict=True)], digits) for key, digits in cells
            ]
            print(f"| {label} | " + " | ".join(differences) + " |")


if __name__ == "__main__":
    main()
