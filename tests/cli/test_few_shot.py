"""`metanas fewshot` and what goes on with it, as processes: what is printed, where, and how it ends."""

from __future__ import annotations

import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from metanas.recipe import read_few_shot, read_toml
from metanas.recipe.shipped import find_recipe, list_recipes
from metanas.run import read_events

SLOW = [
    "--threads=1", "--device=cpu", "--set=network.options.width=4", "--set=network.options.depth=2",
    "--set=episodes.tasks=2", "--set=episodes.queries=3", "--set=evaluation.queries=4", "--set=evaluation.every=2",
    "--set=evaluation.validation=4", "--set=evaluation.episodes=12", "--set=learner.options.steps=1", "--ways=3",
]  # fmt: skip
QUICK = [*SLOW, "--steps=4"]


@pytest.fixture(scope="module")
def first(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `runs/first`; not to be changed."""
    folder = tmp_path_factory.mktemp("fewshot")
    job = commands.run(["fewshot", "maml", *QUICK, "--plain", "--run=first"], folder)
    assert job.code == 0, job.errors
    assert job.errors == ""
    (folder / "printed").write_text(job.output)
    return folder


def test_a_run_to_its_end(first: Path) -> None:
    lines = (first / "printed").read_text().splitlines()
    assert lines[0] == "first: few-shot maml on conv4, digits, 3-way 1-shot, 4 steps"
    assert all(line.isascii() and "\x1b" not in line for line in lines)
    assert sum(": validation " in line for line in lines) == 2
    end = next(k for k, line in enumerate(lines) if line.startswith("first: finished after "))
    assert [line.split()[0] for line in lines[end + 1 :]] == ["accuracy", "beside", "files"]
    assert lines[end + 1].endswith("% on 12 episodes of new classes") and " +- " in lines[end + 1]
    assert "% before it learned, " in lines[end + 2] and lines[end + 2].endswith("% transductive")
    assert lines[-1] == "files     runs/first/learned.safetensors, learned.json"
    assert all(name.startswith("outer.weights.") for name in load_file(first / "runs/first/learned.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["fewshot", "--list"], 0, "maml           The", ""),
        (["runs"], 0, "3-way 1-shot digits maml", ""),
        (["show", "first"], 0, "── episodes ", ""),
        (["watch", "first"], 0, "first: finished after", ""),
        (["stop", "first"], 1, "", "first is not running (finished); nothing to stop\n"),
        (["resume", "first"], 0, "accuracy  ", "first is already finished; nothing was changed\n"),
        (["fewshot"], 1, "", "error: which recipe? a .toml file, or one of maml, omniglot, omniglot_long, pro"),
        (["fewshot", "mamml"], 1, "", "error: no few-shot recipe named 'mamml'; did you mean \"maml\"?\n"),
        (["fewshot", "clean"], 1, "", "error: no few-shot recipe named 'clean'"),
        (["fewshot", "no.toml"], 1, "", "error: no.toml: No such file or directory"),
        (["fewshot", "maml", "--steps", "x"], 2, "", "Error: Invalid value for '--steps': "),
        (["fewshot", "maml", "omniglot"], 2, "", "unexpected extra argument"),
        (["fewshot", "maml", "--stpes", "3"], 2, "", "--steps"),
        (["fewshot", "maml", "--learner", "mamml"], 1, "",
         "error: learner.name: unknown name 'mamml'; did you mean \"maml\"?\n"),
        (["fewshot", "maml", "--set", "learner.options.stepz=2"], 1, "",
         'error: learner.options.stepz: maml has no such option; did you mean "steps"?\n'),
        (["fewshot", "maml", "--set", "learner.options.lr=x"], 1, "",
         "error: learner.options.lr: should be like 0.4, got 'x'\n"),
        (["fewshot", "maml", "--set", "episodes.ways=3"], 1, "",
         "error: episodes.ways: maml has one output for each class, so it is tested with the ways that it is trained"),
        (["fewshot", "maml", "--ways", "1"], 1, "", "error: episodes.ways: should be greater than or equal to 2, got"),
        (["fewshot", "prototypes", "--ways", "99"], 1, "", "error: an episode of 99 ways needs 99 classes, "),
        (["fewshot", "prototypes", "--shots", "999"], 1, "", "error: 999 shots and "),
        (["fewshot", "maml", "--set", "structure.mode=shared"], 1, "",
         "error: structure.mode: the network has no choices; take a space that has some, or fixed\n"),
        (["fewshot", "prototypes", "--set", "structure.mode=adapts"], 1, "",
         "error: structure.mode: nothing adapts inside a task of prototypical; take shared, or maml\n"),
        (["fewshot", "maml", "--data", "digitz"], 1, "", "error: unknown data 'digitz'; did you mean \"digits\"?"),
        (["fewshot", "maml", "--set", "network.name=konv4"], 1, "",
         "error: no space named 'konv4'; did you mean \"conv4\""),
        (["fewshot", "maml", "--run", "../x"], 1, "", "error: run name '../x' is not allowed"),
        (["fewshot", "maml", *QUICK, "--run", "first"], 1, "",
         "error: runs/first exists; resume it (metanas resume first)"),
        (["export", "first", "--to", "out", "--format", "pt2"], 1, "",
         "error: a learner is written as json and safetensors, not as pt2"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_commands(commands: Any, first: Path, arguments: list[str], code: int, out: str, err: str) -> None:
    job = commands.run(arguments, first)
    assert job.code == code, job.errors
    assert out in job.output and err in job.errors and bool(job.errors) == bool(err)
    assert not (out == "" and job.output), "an error prints nothing on standard output"
    assert "Traceback" not in job.errors and (code == 2 or len(job.errors.splitlines()) <= 2)
    assert sorted(p.name for p in (first / "runs").iterdir()) == ["first"] and not (first / "out").exists()


def test_the_list_has_every_recipe_with_its_summary(commands: Any, tmp_path: Path) -> None:
    lines = commands.run(["fewshot", "--list"], tmp_path).output.splitlines()
    assert [line.split("  ", 1)[0] for line in lines] == list(list_recipes("few-shot"))
    assert [line.partition("  ")[2].strip() for line in lines] == [
        said for _, said in list_recipes("few-shot").values()
    ]
    assert (
        len({line.index(said) for line, (_, said) in zip(lines, list_recipes("few-shot").values(), strict=True)}) == 1
    )


def test_all_mistakes_of_a_recipe_are_lines(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = -1\n[learner]\nnmae = 'maml'\n[episodes]\nways = 'x'\n")
    job = commands.run(["fewshot", "r.toml", "--set", "outer.clip=0"], tmp_path)
    assert (job.code, job.output) == (1, "")
    assert job.errors.splitlines() == [
        "error: episodes.ways: should be a valid integer, got 'x'",
        'error: learner.nmae: unknown key; did you mean "name"?',
        "error: outer.clip: should be greater than 0, got 0",
        "error: seed: should be greater than or equal to 0, got -1",
    ]
    (tmp_path / "r.toml").write_text("")
    assert "the recipe is empty" in commands.run(["fewshot", "r.toml"], tmp_path).errors


def test_print_recipe_reads_back_and_flags_override_the_file(commands: Any, tmp_path: Path) -> None:
    def printed(*arguments: str) -> Any:
        job = commands.run(["fewshot", *arguments, "--print-recipe"], tmp_path)
        assert (job.code, job.errors) == (0, "")
        return read_few_shot(tomllib.loads(job.output))

    for name in list_recipes("few-shot"):
        assert printed(name) == read_few_shot(read_toml(find_recipe("few-shot", name)))
    (tmp_path / "r.toml").write_text(
        "seed = 1\n[outer]\nsteps = 9\nlr = 0.5\n[learner]\nname = 'anil'\noptions = { head = 'x' }\n[data]\ntest = 4\n"
    )
    recipe = printed("r.toml", "--steps=7", "--set=outer.lr=0.25", "--ways=4", "--shots=2")
    assert (recipe.seed, recipe.outer.steps, recipe.outer.lr, recipe.data.test) == (1, 7, 0.25, 4)
    assert (recipe.episodes.ways, recipe.evaluation.ways, recipe.episodes.shots, recipe.evaluation.shots) == (
        4,
        4,
        2,
        2,
    )
    other = printed("r.toml", "--learner=maml", "--data=photos.zip")
    assert (other.learner.name, other.learner.options) == ("maml", {}), "options are those of a learner"
    assert (other.data.source, other.data.test) == ("photos.zip", None), "a split is that of its own data"
    compared = printed("prototypes", "--ways=3")
    assert (compared.episodes.ways, compared.evaluation.ways) == (12, 3)
    assert not (tmp_path / "runs").exists()


def test_a_printed_recipe_makes_the_same_run(commands: Any, first: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(commands.run(["fewshot", "maml", *QUICK, "--print-recipe"], tmp_path).output)
    assert commands.run(["fewshot", "r.toml", "--run=again", "--plain"], tmp_path).code == 0
    for name in ("learned.safetensors", "learned.json"):
        assert (tmp_path / "runs/again" / name).read_bytes() == (first / "runs/first" / name).read_bytes()


def test_export_and_its_refusal(commands: Any, first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = commands.run(["export", "first", "--to", str(out)], first)
    assert (job.code, job.output.split()) == (0, [str(out / n) for n in ("learned.safetensors", "learned.json")])
    again = commands.run(["export", "first", "--to", str(out)], first)
    assert (again.code, again.output) == (1, "") and f"error: already there: {out}/learned.safetensors" in again.errors
    assert commands.run(["export", "first", "--to", str(out), "--force"], first).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint_and_resume_goes_on(
    commands: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["fewshot", "maml", *SLOW, "--steps=60", "--set=checkpoint_seconds=1000", "--plain"]
    run = tmp_path / "runs/stopped"
    job = commands.start([*words, "--run=stopped"], tmp_path)
    job.until(lambda: sum(e["kind"] == "step" for e in read_events(run / "events.jsonl").events) >= 2)
    job.kill(number)
    assert job.wait() == code
    assert job.errors == "stopped with a checkpoint; go on with: metanas resume stopped\n"
    assert len(list((run / "checkpoints").glob("*.json"))) == 1
    assert read_events(run / "events.jsonl").events[-1]["status"] == "interrupted"
    again = commands.run(["resume", "stopped", "--plain"], tmp_path)
    assert again.code == 0 and "accuracy  " in again.output, again.errors
    assert commands.run([*words, "--run=whole"], tmp_path).code == 0
    for name in ("learned.safetensors", "learned.json"):
        assert (run / name).read_bytes() == (tmp_path / "runs/whole" / name).read_bytes()


def test_a_structure_that_was_found_is_printed(commands: Any, tmp_path: Path) -> None:
    words = [*QUICK, "--set=network.options.search=true", "--set=structure.mode=shared", "--set=structure.steps=2"]
    job = commands.run(["fewshot", "maml", *words, "--plain", "--run=first"], tmp_path)
    assert job.code == 0, job.errors
    assert "\ninfo: derived: block1.main " in job.output and "\nfound     block1.main=" in job.output
    assert "structure  " in commands.run(["show", "first"], tmp_path).output
    assert "step 6/6" in commands.run(["runs"], tmp_path).output
