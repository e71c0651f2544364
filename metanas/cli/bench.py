"""`metanas bench`: how fast a search steps on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from metanas.cli.guard import guarded, put, say
from metanas.cli.options import Device, Threads


@guarded
def bench(
    space: Annotated[
        str,
        typer.Argument(metavar="SPACE", help="Name of a space, or path to its file; also of one that makes a module."),
    ] = "nasbench201",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the space: channels=16", show_default=False),
    ] = None,
    image: Annotated[str, typer.Option(metavar="CxHxW", help="Shape of an image; C alone for rows.")] = "3x32x32",
    classes: Annotated[int, typer.Option(metavar="N", min=2, help="Outputs; those of a module of your own.")] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", min=2, help="Images of a batch.")] = 64,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of each way.")] = 5,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Time a step of a search on this machine: fused, plain, and as public code does it."""
    from metanas.api.bench import bench as run_bench
    from metanas.api.bench import place_of
    from metanas.api.host import threads as with_threads
    from metanas.recipe import parse_setting
    from metanas.recipe.spaces import load_made, load_space
    from metanas.space import Space

    try:
        shape = tuple(map(int, image.lower().split("x")))
    except ValueError:
        shape = ()
    if len(shape) not in (1, 3) or min(shape) < 1:
        say(f"--image {image!r}: give channels, height and width, as 3x32x32, or the columns of a row, as 64")
        raise typer.Exit(2)
    options = dict(parse_setting(text) for text in settings or [])
    loaded, made = load_space(space, **options), load_made(space, **options)
    with with_threads(threads):
        place, word = place_of(device)
        put(f"{loaded.name}, {image}, batches of {batch_size}; {word}")
        put(f"a step of the weights and one of the structure, median of {repeats}, in turn:")
        times = run_bench(
            loaded if isinstance(made, Space) else made,
            shape,
            classes=classes,
            batch_size=batch_size,
            repeats=repeats,
            device=place,
        )
    for timing in times:
        put(
            f"  {timing.way:<10}{1e3 * timing.seconds:10.1f} ms{2 * batch_size / timing.seconds:10.0f} images/s"
            f"{times[0].seconds / timing.seconds:8.2f} x"
        )
