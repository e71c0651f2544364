"""`metanas transfer`: what a search found, carried to new data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from metanas.cli.guard import guarded, put, shown
from metanas.cli.learning import view_of
from metanas.cli.options import Data, Device, NewRun, Plain, Seed, Target, Threads, settings_option
from metanas.errors import RecipeError, RunError


@guarded
def transfer(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A finished search, or a transfer.", show_default=False)],
    data: Data = None,
    how: Annotated[
        str, typer.Option(metavar="NAME", help="finetune, frozen (a new head alone is trained) or search.")
    ] = "finetune",
    target: Target = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Learning rate of what is carried, at the start.", show_default=False),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    run: NewRun = None,
    settings: Annotated[list[str] | None, settings_option("evaluation.epochs=50")] = None,
    plain: Plain = False,
) -> None:
    """Carry the network of a run, with its weights, to new data, and train it there beside one from scratch."""
    from metanas.recipe import parse_setting

    if data is None:
        raise RecipeError(["which data? --data takes digits, or a path"])
    changes = dict(parse_setting(text) for text in settings or [])
    changes |= {} if threads is None else {"threads": threads}
    from metanas.api import Result, load_run

    found = load_run(source).result()
    if not isinstance(found, Result):
        raise RunError(f"{source} holds no network of an architecture; a search, or a transfer of one, can be carried")
    print_found(
        found.transfer(
            data,
            how=how,
            lr=lr,
            target=target,
            seed=seed,
            device=device,
            settings=changes,
            run=run,
            view=view_of(plain),
        )
    )


def print_found(result: Any) -> None:
    """What a search or a transfer found, in a few lines."""
    others = {"from scratch": result.scratch_score, "random networks": result.random_score}
    beside = "".join(f", {name} {result.shown(score)}" for name, score in others.items() if score is not None)
    files = [
        name for name in ("network.py", "network.safetensors", "architecture.json") if (result.run / name).exists()
    ]
    put(f"found     {result.architecture}")
    put(f"{result.metric:<8}  {result.shown(result.test_score)} on test{beside}")
    put(f"network   {result.found.parameters:,} parameters, {result.found.multiply_adds:,} multiply-adds")
    put(f"files     {shown(result.run)}/{', '.join(files)}")
