"""`metanas compare-controllers`: which controller finds the best networks in the same time?"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from metanas.cli.by_value import Charge, Choose, Key, Report, table_changes
from metanas.cli.guard import guarded, put, say, shown
from metanas.cli.options import Data, Device, Target, Threads, settings_option
from metanas.errors import RecipeError, RunError


@guarded
def compare_controllers(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="Name of a space, or path to its file.", show_default=False)
    ] = None,
    data: Data = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Look values up here, in place of training.", show_default=False)
    ] = None,
    controllers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="With commas: drnas,darts:beta=50; random stands beside in any case. Default: drnas,darts,evolution; "
            "of a table, evolution,local_search,predictor.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", help="Of each search: on the clock, or charged by the table.")
    ] = 60.0,
    seeds: Annotated[int, typer.Option(metavar="N", help="How many seeds: 0, 1, ...")] = 5,
    run: Annotated[
        str, typer.Option(metavar="RUN", help="Name of the comparison; the names of its runs begin with it.")
    ] = "controllers",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where processes of several hosts share the work, as Optuna takes it; here: a journal file.",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    key: Key = None,
    choose: Choose = None,
    report: Report = None,
    charge: Charge = None,
    device: Device = None,
    threads: Threads = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe as TOML to start from.", show_default=False)
    ] = None,
    settings: Annotated[list[str] | None, settings_option("evaluation.epochs=50")] = None,
) -> None:
    """Run controllers on equal budgets and print how they stand; the same command goes on, or joins in."""
    from metanas.recipe import Recipe, ValueRecipe, override, parse_setting, read, read_toml, read_values
    from metanas.recipe.spaces import usual_settings

    by_table = table is not None or (recipe is not None and "table" in read_toml(recipe))
    usual = usual_settings(space) if space is not None and recipe is None and not by_table else {}
    changes = {**usual, **dict(parse_setting(text) for text in settings or [])}
    given: dict[str, Any]
    if by_table:
        wrong = [name for name, value in (("--data", data), ("--target", target), ("--device", device)) if value]
        if wrong:
            raise RecipeError([f"{wrong[0]}: nothing is trained where values are looked up in a table; leave it out"])
        given = table_changes(table, space, key, choose, report, charge)
        base = read_toml(recipe) if recipe else ValueRecipe().to_json()
    else:
        given = {"data.source": data, "data.target": target, "device": device, "threads": threads}
        given["space"] = None if space is None else {"name": space}
        base = read_toml(recipe) if recipe else override(Recipe().to_json(), {"evaluation.random": 0})
    given = {path: value for path, value in given.items() if value is not None}
    whole = (read_values if by_table else read)(override(base, {**given, **changes}))
    from metanas.api import compare_controllers as run_comparison

    usual_names = "evolution,local_search,predictor" if by_table else "drnas,darts,evolution"
    names = [name.strip() for name in (controllers or usual_names).split(",") if name.strip()]
    print_standings(run_comparison(whole, names, budget=budget, run=run, seeds=seeds, storage=storage, say=put))


def stored(folder: Path) -> Any:
    """The table of a comparison from its folder. RunError where there is none yet."""
    from metanas.run import COMPARISON, read_json

    table = read_json(folder / COMPARISON).get("table")
    if table is None:
        raise RunError(f"{folder} has no table yet: its first runs are at work, or were stopped")
    rows = [SimpleNamespace(**row) for row in table["rows"]]
    return SimpleNamespace(**{**table, "rows": rows, "folder": folder})


def print_standings(found: Any) -> None:
    """The table, and what is wrong with it."""
    percent = found.metric == "accuracy"
    scale, unit = (100, " %") if percent else (1, "")
    width = max(len("controller"), *(len(row.controller) for row in found.rows))
    put(f"{'controller':<{width}}  {found.metric + unit:>20}  seeds   rank  {'gain on random':>22}       p  seconds")
    for row in found.rows:
        score = "-" if row.mean is None else f"{scale * row.mean:.2f}{_spread(row.spread, scale)}"
        gain = "" if row.gain is None else f"{scale * row.gain:+.2f}{_spread(row.interval, scale)}"
        rank = "-" if row.rank is None else f"{row.rank:.1f}"
        p = "" if row.p is None else f"{row.p:.3f}"
        seconds = f"{found.seconds[row.controller]:,.0f}" if row.controller in found.seconds else "-"
        put(f"{row.controller:<{width}}  {score:>20}  {row.seeds:>5}  {rank:>5}  {gain:>22}  {p:>6}  {seconds:>7}")
    put("mean +- standard deviation over seeds; gain +- half of its 95 % interval, seed by seed; p: paired t-test")
    for reason, count in found.failed.items():
        say(f"{count} runs failed: {reason}")
    if found.missing:
        say(f"{found.missing} runs are still at work in other processes; the same command gives the whole table then")
    put(f"files       {shown(found.folder)}/comparison.json")


def _spread(value: float | None, scale: int) -> str:
    return "" if value is None else f" +- {scale * value:.2f}"
