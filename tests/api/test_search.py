"""`metanas.search` and what it returns, with names and with everything of the user's own."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import metanas
from metanas.bilevel import FirstOrder
from metanas.controllers import Darts, DrNas, RandomSearch
from metanas.errors import (
    DataError,
    DivergedError,
    ExportError,
    MetanasError,
    RecipeError,
    RunError,
    ShapeError,
    SpaceError,
)
from metanas.evaluation import ScratchTraining
from metanas.network import OPS
from metanas.space import NEEDED, Space, chain, from_networkx, one_of, op

Quick = Callable[..., Any]


def exported(run: Path) -> nn.Module:
    """The network of the Python module in a run folder."""
    spec = importlib.util.spec_from_file_location("exported_network", run / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.load(run / "network.safetensors")
    return network.eval()


def test_names_and_the_fields_of_a_result(runs: Path) -> None:
    settings = {"space.options.channels": 2, "data.inner": 64, "data.outer": 64, "data.test": 50,
                "evaluation.epochs": 1, "evaluation.random": 2, "search.batch_size": 32}  # fmt: skip
    result = metanas.search("nasbench201", "digits", controller="drnas", epochs=2, seed=3, settings=settings)
    assert (
        result.run == Path("runs/nasbench201-digits-1").absolute()
        and (runs / "nasbench201-digits-1/result.json").is_file()
    )
    assert str(result.architecture) == result.architecture.key and result.architecture.key.startswith("|")
    assert {result.architecture: 1}[result.space.architecture(result.architecture)] == 1, "hashable, equal by value"
    assert 0 <= result.test_accuracy <= 1 and result.test_accuracy == result.test_score == result.found.test_score
    assert len(result.random) == 2 and result.random_accuracy == sum(r.test_score for r in result.random) / 2
    assert result.classes == tuple("0123456789") and result.shape == (1, 8, 8) and result.pixels == (0.0, 16.0)
    assert result.found.parameters == sum(p.numel() for p in result.network.parameters())
    assert result.search_seconds > 0 and result.train_seconds > 0
    assert str(result).startswith(f"{result.architecture}: test accuracy {result.test_accuracy:.2%} (random networks ")

    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(result.run)(images), result.network(images), rtol=1e-5, atol=1e-6)
        again = metanas.load_run("nasbench201-digits-1").result()
        assert torch.equal(again.network(images), result.network(images))
    assert (again.architecture, again.found, again.random) == (result.architecture, result.found, result.random)

    data = metanas.load_data("digits", inner=64, outer=64, test=50, seed=3)
    with torch.no_grad():
        accuracy = (result.network(data.test.inputs).argmax(-1) == data.test.targets).float().mean().item()
    assert accuracy == pytest.approx(result.test_accuracy)

    run = metanas.load_run(result.run)
    assert run.status == "finished" and run.recipe["search"]["epochs"] == 2 and run.space.name == "nasbench201"
    assert run.events()[0]["kind"] == "begin" and run.events()[-1]["status"] == "finished"
    paths = metanas.export(result, "out", formats=["python", "json"])
    assert [p.name for p in paths] == ["network.py", "architecture.json"]


def test_the_seed_decides(quick: Quick) -> None:
    def outcome(seed: int, name: str) -> Any:
        result = quick(seed=seed, run=name)
        return result.architecture, result.test_accuracy, next(iter(result.network.state_dict().values())).tolist()

    assert outcome(1, "a") == outcome(1, "b") != outcome(2, "c")


def test_the_callers_generators_and_threads_are_left_alone(quick: Quick) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    state = np.random.get_state()[1].tolist()
    quick(settings={"threads": threads + 1})
    assert torch.equal(torch.get_rng_state(), before) and np.random.get_state()[1].tolist() == state
    assert torch.get_num_threads() == threads


def test_a_space_from_networkx(quick: Quick) -> None:
    graph = nx.DiGraph()
    graph.add_edge("x", "y", candidates={"conv": op("conv", width=1, kernel=3), "pool": op("max_pool", kernel=3)})
    graph.add_edge("y", "z", op=op("classifier", width=NEEDED))
    result = quick(from_networkx(graph, "mine"))
    assert result.run.name == "mine-tensors-1" and set(result.architecture) == {"y<-x"}


def test_data_of_every_kind(quick: Quick, images: Any, tmp_path: Path) -> None:
    class Dataset(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images[0])

        def __getitem__(self, i: int) -> Any:
            return images[0][i], int(images[1][i])

    np.savez(tmp_path / "mine.npz", x=images[0].numpy(), y=images[1].numpy())
    sources = [images, Dataset(), "mine.npz", tmp_path / "mine.npz", metanas.load_data(images)]
    accuracies = {quick(data=source).test_accuracy for source in sources}
    assert len(accuracies) == 1, "the same images give the same result"
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["tiny-Dataset-1", "tiny-mine-1", "tiny-mine-2", "tiny-tensors-1", "tiny-tensors-2"]


def test_by_value(quick: Quick) -> None:
    result = quick(controller="random", settings={"search.budget": 3, "search.value_epochs": 1})
    events = metanas.load_run(result.run).events()
    values = [e for e in events if e["kind"] == "value"]
    assert len(values) == 3 and max(e["value"] for e in values) == values[-1]["best"]
    assert {e["kind"] for e in events} >= {"begin", "value", "train", "network", "end"}


def test_a_controller_with_other_options_needs_no_handing_over(quick: Quick) -> None:
    result = quick(controller=DrNas(lr=0.5))
    recipe = metanas.load_run(result.run).recipe["search"]
    assert (recipe["controller"], recipe["options"]) == ("drnas", {"lr": 0.5})


@dataclass(frozen=True, kw_only=True)
class Stubborn(Darts):
    """Always the skip."""

    wanted: str = "skip"

    def derive(self, space: Space, omega: Any, *, evaluate: Any, generator: torch.Generator) -> metanas.Architecture:
        return metanas.Architecture({"body": self.wanted})


class LastOf(RandomSearch):
    def best(self, space: Space, memory: Any) -> metanas.Architecture:
        return space.architecture({"body": "conv"})


@pytest.mark.parametrize(("controller", "label"), [(Stubborn(), "skip"), (LastOf(), "conv")])
def test_a_controller_of_the_users_own(quick: Quick, controller: Any, label: str) -> None:
    result = quick(controller=controller, settings={"search.budget": 1, "search.value_epochs": 1})
    assert result.architecture["body"] == (label,)
    assert metanas.load_run(result.run).recipe["search"]["controller"] == type(controller).__name__


def test_an_estimator_and_a_loss_of_the_users_own(quick: Quick) -> None:
    calls = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(len(targets))
        return F.cross_entropy(outputs, targets, label_smoothing=0.1)

    result = quick(estimator=FirstOrder(0), loss=loss)
    assert calls and metanas.load_run(result.run).recipe["search"]["estimator"] == "FirstOrder"


@pytest.mark.parametrize("estimator", ["first_order", "finite_difference", "unrolled"])
def test_estimators_by_name(quick: Quick, estimator: str) -> None:
    assert quick(estimator=estimator, epochs=1, settings={"evaluation.random": 0}).random_accuracy is None


def scaled(spec: Any, shape: Any, phase: Any) -> nn.Module:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    return Scale()


@pytest.fixture
def own_ops() -> tuple[Space, Any]:
    body = one_of("body", {"mine": op("mine"), "mine too": op("mine")})
    space = Space(chain(("body", body), ("head", op("classifier", width=NEEDED))), "own")
    return space, {**OPS, "mine": scaled}


def test_operations_of_the_users_own(quick: Quick, own_ops: Any) -> None:
    space, ops = own_ops
    result = quick(space, ops=ops)
    assert not (result.run / "network.py").exists() and (result.run / "network.safetensors").exists()
    assert [path.name for path in metanas.export(result, "out")] == ["architecture.json", "network.safetensors"]
    with pytest.raises(ExportError, match="mine"):
        metanas.export(result, "out2", "python")
    with pytest.raises(RunError, match=r"your own ops; hand them over again: metanas\.load_run\(\.\.\.\)\.result"):
        metanas.load_run(result.run).result()
    again = metanas.load_run(result.run).result(ops=ops)
    assert again.found == result.found
    assert metanas.resume(result.run, ops=ops).found == result.found


def test_another_space_for_the_networks_from_scratch(runs: Path) -> None:
    settings = {"space.options.channels": 2, "evaluation.space": {"channels": 4}, "data.inner": 64, "data.outer": 64,
                "data.test": 50, "evaluation.epochs": 1, "evaluation.random": 0}  # fmt: skip
    result = metanas.search(epochs=1, settings=settings, run="wide")
    assert (result.space.settings["channels"], metanas.load_run("wide").space.settings["channels"]) == (4, 2)
    assert metanas.load_run("wide").result().found == result.found
    assert metanas.export("wide", "out")


def test_a_batch_larger_than_the_data(quick: Quick) -> None:
    assert quick(epochs=1, settings={"search.batch_size": 10**6, "evaluation.batch_size": 10**6}).found


def test_settings_on_top_of_a_recipe_and_arguments_on_top_of_both(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        "seed = 1\n[search]\nlr = 0.03\nepochs = 9\nbatch_size = 8\n[evaluation]\nepochs=4"
    )
    base = metanas.load_recipe("r.toml")
    result = quick(recipe=base, settings={"search.batch_size": 16, "search.epochs": 7}, epochs=1)
    again = quick(recipe="r.toml", settings={"search.batch_size": 16, "search.epochs": 7}, epochs=1)
    used = metanas.load_run(result.run).recipe
    assert used == metanas.load_run(again.run).recipe
    assert (used["seed"], used["search"]["lr"], used["search"]["batch_size"], used["search"]["epochs"]) == (
        1,
        0.03,
        16,
        1,
    )


body = one_of("c", {"conv": op("conv", width=2, kernel=3), "skip": op("skip")})
misfit = Space(chain(("a", op("max_pool", kernel=3)), ("b", body), ("head", op("classifier", width=NEEDED))), "misfit")


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"controller": "drnaz"}, RecipeError, 'did you mean "drnas"'),
        ({"estimator": "unroled"}, RecipeError, 'did you mean "unrolled"'),
        ({"settings": {"search.epohcs": 1}}, RecipeError, 'did you mean "epochs"'),
        ({"settings": {"search.epochs": 3, "search.warmup": 3}}, RecipeError, "should be below search.epochs"),
        ({"settings": {"search.options": {"lr": -1.0}}}, RecipeError, "search.options"),
        ({"settings": {"data.augment": ["crp"]}}, RecipeError, 'did you mean "crop"'),
        ({"settings": {"evaluation.space": {"channels": 3}}}, RecipeError, "a Space was handed over"),
        ({"settings": {"space.options.channels": 3}}, RecipeError, "space.options: needs a space by name, and a Space"),
        ({"epochs": 0}, RecipeError, "search.epochs: should be greater than or equal to 1, got 0"),
        ({"device": "gpu"}, RecipeError, "device: should be"),
        ({"space": "nasbench210"}, SpaceError, 'did you mean "nasbench201"'),
        ({"space": "nasbench201", "settings": {"space.options.chanels": 3}}, SpaceError, 'did you mean "channels"'),
        ({"space": misfit}, ShapeError, "b: sum does not take b.conv (2, 6, 6), b.skip (1, 6, 6)"),
        ({"data": "digitz"}, DataError, 'did you mean "digits"'),
        ({"data": 3}, DataError, "data must be"),
        ({"data": (torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.long))}, DataError, "train is empty"),
        ({"run": "../x"}, RunError, "is not allowed"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_mistakes_are_found_before_a_folder_is_made(
    quick: Quick, runs: Path, arguments: dict[str, Any], kind: type[MetanasError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        quick(**arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not runs.exists()


def test_a_choice_that_cannot_be_relaxed_is_found_before(quick: Quick, problems: Any, runs: Path) -> None:
    with pytest.raises(SpaceError, match="takes any subset"):
        quick(problems.nasbench101())
    assert not runs.exists()


def test_other_choices_from_scratch_are_refused_before(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from metanas.space import *\n"
        "def space(n=2):\n"
        "    body = one_of('body', {f'c{k}': op('conv', width=2, kernel=3) for k in range(n)})\n"
        "    return Space(chain(('body', body), ('head', op('classifier', width=NEEDED))), 'own')\n"
    )
    with pytest.raises(RecipeError, match=r"evaluation\.space: changes the choices"):
        metanas.search("own.py", settings={"evaluation.space": {"n": 3}})
    assert not runs.exists()


def test_a_run_that_is_there_is_refused(quick: Quick) -> None:
    quick(run="first", epochs=1)
    with pytest.raises(RunError, match=r"runs/first exists; resume it \(metanas resume first\) or choose another name"):
        quick(run="first")


def test_a_view_sees_the_run_from_its_beginning_to_its_end(quick: Quick) -> None:
    seen = []

    @contextlib.contextmanager
    def view(folder: Path) -> Any:
        seen.append((folder / "recipe.json").exists() and (folder / "space.json").exists())
        yield
        seen.append((folder / "result.json").exists())

    quick(epochs=1, view=view)
    assert seen == [True, True]


def test_a_refined_search_is_at_least_as_good_for_its_own_objective(quick: Quick) -> None:
    rounds = [{"candidates": 2, "epochs": 1}]
    result = quick(settings={"search.refine": rounds}, run="refined")
    values = [e for e in metanas.load_run("refined").events() if e["kind"] == "value"]
    assert len(values) == 2 and result.architecture.to_json() == max(values, key=lambda e: e["value"])["architecture"]


def test_a_refinement_starts_from_the_supernet_or_from_scratch(quick: Quick) -> None:
    """One epoch from weights that were trained before beats one from random ones."""
    loss = {}
    for start in ("supernet", "scratch"):
        settings = {"search.refine": [{"candidates": 1, "epochs": 1}], "search.refine_from": start}
        quick(epochs=4, settings=settings, run=start)
        (value,) = (e["value"] for e in metanas.load_run(start).events() if e["kind"] == "value")
        loss[start] = -value
    assert loss["supernet"] < 0.9 * loss["scratch"]


def by_value(path: str) -> dict[str, Any]:
    return {"search.budget": 8, "search.value_epochs": 1, path: 1e20}  # a rate at which every update explodes


def test_every_evaluation_failing_stops_the_search(quick: Quick) -> None:
    with pytest.raises(
        DivergedError, match=r"^every evaluation failed \(5 times: the value is nan\); mend the objective"
    ):
        quick(controller="random", settings=by_value("evaluation.lr"), run="hopeless")
    events = metanas.load_run("hopeless").events()
    assert len([e for e in events if e["kind"] == "value"]) == 5 and events[-1]["status"] == "failed"


def test_an_evaluation_that_diverges_is_a_failure_in_the_log_and_never_the_best(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four that differ: one that was trained is not trained again."""
    body = {f"conv{n}": op("conv", width=2, kernel=n) for n in (1, 3, 5)}
    rungs = [(f"e{k}", one_of(f"e{k}", body)) for k in range(4)]
    space = Space(chain(*rungs, ("head", op("classifier", width=NEEDED))), "several")
    plain, made = ScratchTraining.epochs, []

    def epochs(self: ScratchTraining) -> Any:
        made.append(self)
        if len(made) in (1, 3):
            raise DivergedError(f"number {len(made)}")
        return plain(self)

    monkeypatch.setattr(ScratchTraining, "epochs", epochs)
    quick(space, controller="random", settings={"search.budget": 4, "search.value_epochs": 1}, run="some")
    rows = [e for e in metanas.load_run("some").events() if e["kind"] == "value"]
    assert [e.get("reason") for e in rows] == ["number 1", None, "number 3", None]
    assert [e["value"] is None for e in rows] == [True, False, True, False]
    assert rows[-1]["best"] == max(e["value"] for e in rows if e["value"] is not None)


def test_a_baseline_whose_loss_is_not_finite_does_not_cost_the_result(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, made = ScratchTraining.epochs, []

    def epochs(self: ScratchTraining) -> Any:
        made.append(self)
        if len(made) == 2:
            with torch.no_grad():
                for parameter in self.parameters.values():
                    parameter.fill_(torch.finfo(parameter.dtype).max)  # finite, and no output is
        return plain(self)

    monkeypatch.setattr(ScratchTraining, "epochs", epochs)
    result = quick(run="lucky")
    (baseline,) = result.random
    assert math.isnan(baseline.test_loss) and math.isfinite(result.found.test_loss)
    (said,) = [e["message"] for e in metanas.load_run("lucky").events() if e["kind"] == "log"]
    assert said.startswith("random 1: training from scratch, epoch 1: none of its ")
    assert metanas.load_run("lucky").result().found == result.found


def test_a_baseline_that_diverges_does_not_cost_the_result(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, made = ScratchTraining.epochs, []

    def epochs(self: ScratchTraining) -> Any:
        made.append(self)
        if len(made) == 2:
            raise DivergedError("epoch 1: none of 3 updates was finite")
        return plain(self)

    monkeypatch.setattr(ScratchTraining, "epochs", epochs)
    result = quick(run="lucky")
    assert len(result.random) == 1
    said = [e["message"] for e in metanas.load_run("lucky").events() if e["kind"] == "log"]
    assert said == ["random 1: epoch 1: none of 3 updates was finite"]
    made.clear()
    monkeypatch.setattr(ScratchTraining, "epochs", lambda self: (_ for _ in ()).throw(DivergedError("lost")))
    with pytest.raises(DivergedError, match="lost"):
        quick(run="unlucky")


def test_an_own_loss_is_that_of_the_test_too(quick: Quick) -> None:
    def shifted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, targets) + 100

    assert quick(loss=shifted).found.test_loss > 100


def recall_of_bright(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(-1) == 1)[targets == 1].float().mean()


def test_an_own_metric_judges_every_network(quick: Quick, images: Any) -> None:
    data = metanas.load_data(images)
    result = quick(data=data, metric=recall_of_bright, run="own")
    with torch.no_grad():
        assert result.test_score == float(recall_of_bright(result.network(data.test.inputs), data.test.targets))
    assert result.random_score == result.random[0].test_score
    words = f"test recall_of_bright {result.test_score:.4f} (random networks {result.random_score:.4f})"
    assert result.metric == "recall_of_bright" and words in str(result)
    assert metanas.load_run("own").result().metric == "recall_of_bright"
    with pytest.raises(AttributeError, match="the run's metric is recall_of_bright, not accuracy; use test_score"):
        _ = result.test_accuracy
    with pytest.raises(AttributeError, match="use random_score"):
        _ = result.random_accuracy
