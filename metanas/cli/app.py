"""The commands and their arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metanas import __version__
from metanas.cli.bench import bench
from metanas.cli.by_value import print_best, table
from metanas.cli.comparing import compare, runs
from metanas.cli.controllers import compare_controllers, print_standings, stored
from metanas.cli.guard import guarded, put, say
from metanas.cli.interactive import ui
from metanas.cli.learning import fewshot, print_learned, print_learner, tune, view_of
from metanas.cli.options import (
    Data,
    Device,
    Module,
    NewRun,
    Plain,
    PrintRecipe,
    RunName,
    Seed,
    Target,
    Threads,
    data_option,
    settings_option,
)
from metanas.cli.page import report
from metanas.cli.transfer import print_found, transfer
from metanas.cli.waiting import wait_for
from metanas.errors import SpaceError

app = typer.Typer(
    name="metanas",
    help="Neural architecture meta-search. Without arguments `metanas search` searches NAS-Bench-201 cells on digits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point of the `metanas` command."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"metanas {__version__}")
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    if debug:
        os.environ["METANAS_DEBUG"] = "1"


@app.command()
@guarded
def search(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="Name of a space, or path to its file.", show_default=False)
    ] = None,
    data: Data = None,
    target: Target = None,
    controller: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="drnas, darts, gdas, ...; by values: random, evolution, predictor, ... (docs/catalogue.md has all).",
            show_default=False,
        ),
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(metavar="NAME", help="first_order, finite_difference or unrolled.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs of the search.", show_default=False)] = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    run: NewRun = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe as TOML to start from.", show_default=False)
    ] = None,
    settings: Annotated[list[str] | None, settings_option("search.lr=0.05")] = None,
    print_recipe: PrintRecipe = False,
    plain: Plain = False,
) -> None:
    """Search an architecture, train it and random ones from scratch, and write a run folder."""
    from metanas.recipe import Recipe, override, parse_setting, read, read_toml
    from metanas.recipe.spaces import usual_settings

    base = read_toml(recipe) if recipe else Recipe().to_json()
    section = base.get("space", {})
    if space is not None and space != (section.get("name") if isinstance(section, dict) else None):
        base["space"] = {"name": space}  # another space has other options
    usual = usual_settings(space) if space is not None and recipe is None else {}
    changes = {**usual, **dict(parse_setting(text) for text in settings or [])}
    given: dict[str, Any] = {
        "data.source": data,
        "data.target": target,
        "search.controller": controller,
        "search.estimator": estimator,
        "search.epochs": epochs,
        "seed": seed,
        "device": device,
        "threads": threads,
    }
    changes |= {path: value for path, value in given.items() if value is not None}
    whole = read(override(base, changes))
    if print_recipe:
        print(whole.to_toml(), end="")
        return
    from metanas.api import search as run_search

    print_found(run_search(recipe=whole, run=run, view=view_of(plain)))


app.command()(tune)
app.command()(fewshot)
app.command()(transfer)
app.command()(table)
app.command()(ui)
app.command()(report)
app.command()(bench)


@app.command()
@guarded
def resume(
    run: RunName,
    data: Annotated[str | None, data_option("Where the same data are now, if they were moved.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another device; not bit-exact then.", show_default=False)
    ] = None,
    module: Module = None,
    plain: Plain = False,
) -> None:
    """Go on with a run from its last checkpoint."""
    from metanas.run import RunFolder, summarise

    finished = summarise(RunFolder.open(run).path).status == "finished"
    from metanas.api import resume as run_resume

    if finished:
        say(f"{run} is already finished; nothing was changed")
    result = run_resume(run, data=data, module=module, device=device, view=None if finished else view_of(plain))
    if hasattr(result, "learner"):
        print_learner(result)
    elif hasattr(result, "evaluations"):
        print_best(result)
    else:
        (print_learned if hasattr(result, "learned") else print_found)(result)


@app.command()
@guarded
def show(run: RunName) -> None:
    """Show a run: live, finished, interrupted or copied; of a comparison of controllers, its table."""
    from rich.console import Console

    from metanas.run import COMPARISON, RunFolder, run_path
    from metanas.ui import read, show

    if (run_path(run) / COMPARISON).exists():
        print_standings(stored(run_path(run)))
        return
    Console().print(show(read(RunFolder.open(run).path)))


@app.command()
@guarded
def watch(run: RunName) -> None:
    """Watch a run from another terminal until it ends."""
    from metanas.run import RunFolder
    from metanas.ui import can_draw, show, watch

    wait_for(run)
    folder = RunFolder.open(run)
    try:
        state = watch(folder.path)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if can_draw(sys.stdout):  # the live view left the screen as it was; plain lines have said all
        from rich.console import Console

        Console().print(show(state))


app.command()(runs)
app.command()(compare)
app.command()(compare_controllers)


@app.command()
@guarded
def pause(
    run: RunName, off: Annotated[bool, typer.Option("--off", help="Let a search that was paused go on.")] = False
) -> None:
    """Ask a running search to wait, between two steps, until it is told to go on."""
    from metanas.run import ask, withdraw

    folder = _running(run, "pause")
    if off:
        withdraw(folder, "pause")
        put(f"{run} goes on")
    else:
        ask(folder, "pause")
        put(f"asked {run} to wait; it goes on with: metanas pause {run} --off")


@app.command()
@guarded
def stop(run: RunName) -> None:
    """Ask a running search to write a checkpoint and stop."""
    from metanas.run import ask

    ask(_running(run, "stop"), "stop")
    put(f"asked {run} to stop; it will write a checkpoint first")


def _running(run: str, what: str) -> Path:
    """The folder of a run that is at work; exits with a line where it is not."""
    from metanas.run import RunFolder, summarise

    folder = RunFolder.open(run)
    status = summarise(folder.path).status
    if not status.startswith("running"):
        say(f"{run} is not running ({status}); nothing to {what}")
        raise typer.Exit(1)
    return folder.path


@app.command()
@guarded
def export(
    run: RunName,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.", show_default=False)],
    format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="json, safetensors, python (the default: these), pt2, onnx, card, svg, dot, mermaid; or all.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, float16, bfloat16, or int8 (onnx).")
    ] = "float32",
    data: Annotated[
        str | None, data_option("The run's data, if they were moved: to measure a lower precision.")
    ] = None,
    module: Module = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write the network found to files that need metanas no more, and check them in a process without it."""
    from metanas.api import export as run_export

    paths = run_export(run, to, format or None, force=force, precision=precision, data=data, module=module)
    for path in paths:
        put(str(path))
    for name, loss in paths.losses.items():
        put(f"{name} in {precision}: {loss}")
        if loss.score is None:
            say(f"{name}: the run's data are not where they were, or not named; --data measures on their test split")


@app.command()
@guarded
def spaces(
    name: Annotated[str | None, typer.Argument(metavar="SPACE", help="A space to draw.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option: channels=16", show_default=False),
    ] = None,
) -> None:
    """List the search spaces, or draw one."""
    from metanas.recipe import parse_setting
    from metanas.recipe.spaces import list_spaces, load_space
    from metanas.space import draw_space

    if name is None:
        for found, path in list_spaces().items():
            for line in _listed(found, path):
                put(line)
        return
    for line in draw_space(load_space(name, **dict(parse_setting(text) for text in settings or []))).splitlines():
        put(line)


def _listed(name: str, path: Path) -> tuple[str, ...]:
    """A space in the list; one file that cannot be loaded does not hide the others."""
    from metanas.recipe.spaces import describe_space

    try:
        space = describe_space(path)
    except SpaceError as error:
        return name, f"    error: {error}"
    return " ".join([f"{name} ", *(f"{k}={v}" for k, v in space.options.items())]), f"    {space.summary}"
