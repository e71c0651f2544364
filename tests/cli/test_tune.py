"""`metanas tune` and what goes on with it, as processes: what is printed, where, and how it ends."""

from __future__ import annotations

import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from metanas.recipe import read_toml, read_tuning
from metanas.recipe.shipped import find_recipe, list_recipes
from metanas.run import read_events

QUICK = [
    "--threads=1", "--device=cpu", "--steps=3", "--set=data.inner=60", "--set=data.outer=60", "--set=data.test=40",
    "--set=inner.steps=3", "--set=evaluation.steps=40",
]  # fmt: skip
SLOW = [word for word in QUICK if word != "--steps=3"]


@pytest.fixture(scope="module")
def first(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `runs/first`; not to be changed."""
    folder = tmp_path_factory.mktemp("tune")
    job = commands.run(["tune", "clean", *QUICK, "--plain", "--run=first"], folder)
    assert job.code == 0, job.errors
    assert job.errors == ""
    (folder / "printed").write_text(job.output)
    return folder


def test_a_run_to_its_end(first: Path) -> None:
    lines = (first / "printed").read_text().splitlines()
    assert lines[0].startswith("first: ") and all(line.isascii() and "\x1b" not in line for line in lines)
    end = next(k for k, line in enumerate(lines) if line.startswith("first: finished after "))
    words = [line.split()[0] for line in lines[end + 1 :]]
    assert words == ["learned", "learned", "found", "accuracy", "files"]
    assert lines[end + 1].startswith("learned   mean weight ") and "(was 0.5)" in lines[end + 1]
    assert " of 24 wrong labels, F1 " in lines[end + 3] and lines[end + 4].endswith("% before")
    assert lines[-1] == "files     runs/first/learned.safetensors, learned.json, network.py, network.safetensors"
    assert list(load_file(first / "runs/first/learned.safetensors")) == ["example_weights.logit"]


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["tune", "--list"], 0, "augment  How far may images be moved?", ""),
        (["runs"], 0, "first", ""),
        (["show", "first"], 0, "first", ""),
        (["watch", "first"], 0, "first: finished after", ""),
        (["stop", "first"], 1, "", "first is not running (finished); nothing to stop\n"),
        (["resume", "first"], 0, "learned   mean weight ", "first is already finished; nothing was changed\n"),
        (["tune"], 1, "", "error: which recipe? a .toml file, or one of augment, choose, clean, decay, rates\n"),
        (["tune", "clena"], 1, "", "error: no tuning recipe named 'clena'; did you mean \"clean\"?\n"),
        (["tune", "no.toml"], 1, "", "error: no.toml: No such file or directory"),
        (["tune", "clean", "--steps", "x"], 2, "", "Error: Invalid value for '--steps': "),
        (["tune", "clean", "decay"], 2, "", "unexpected extra argument"),
        (["tune", "clean", "--stpes", "3"], 2, "", "--steps"),
        (["tune", "clean", "--steps", "0"], 1, "", "error: outer.steps: should be greater than or equal to 1, got 0\n"),
        (["tune", "clean", "--set", "inner.lr"], 1, "", "error: 'inner.lr': expected path=value"),
        (["tune", "clean", "--set", "inner.lrr=1"], 1, "", 'error: inner.lrr: unknown key; did you mean "lr"?\n'),
        (["tune", "clean", "--set", "seed=3", "--set", "seed.x=1"], 1, "", "error: seed.x: seed is no section but 3"),
        (["tune", "clean", "--estimator", "unroled"], 1, "", "error: outer.estimator: unknown name 'unroled'; did you"),
        (["tune", "clean", "--data", "digitz"], 1, "", "error: unknown data 'digitz'; did you mean \"digits\"?"),
        (["tune", "clean", "--run", "../x"], 1, "", "error: run name '../x' is not allowed"),
        (["tune", "clean", *QUICK, "--run", "first"], 1, "",
         "error: runs/first exists; resume it (metanas resume first)"),
        (["tune", "clean", "--set", "network.name=plane"], 1, "",
         "error: no space named 'plane'; did you mean \"plain\""),
        (["tune", "clean", "--set", "choose.values.inner.rul=['a', 'b']"], 1, "",
         'error: choose.values.inner.rul: inner.rul: unknown key; did you mean "rule"?\n'),
        (["export", "frist", "--to", "out"], 1, "", 'did you mean "first"'),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_commands(commands: Any, first: Path, arguments: list[str], code: int, out: str, err: str) -> None:
    job = commands.run(arguments, first)
    assert job.code == code, job.errors
    assert out in job.output and err in job.errors and bool(job.errors) == bool(err)
    assert not (out == "" and job.output), "an error prints nothing on standard output"
    assert "Traceback" not in job.errors
    assert sorted(p.name for p in (first / "runs").iterdir()) == ["first"]


def test_the_list_has_every_recipe_with_its_summary(commands: Any, tmp_path: Path) -> None:
    lines = commands.run(["tune", "--list"], tmp_path).output.splitlines()
    assert [line.split("  ", 1)[0] for line in lines] == list(list_recipes("tuning"))
    assert [line.partition("  ")[2].strip() for line in lines] == [said for _, said in list_recipes("tuning").values()]
    assert len({line.index(said) for line, (_, said) in zip(lines, list_recipes("tuning").values(), strict=True)}) == 1


def test_all_mistakes_of_a_recipe_are_lines(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = -1\n[learn.decays]\n[inner]\nlr = 'x'\n[choose]\nvalues = 3\n")
    job = commands.run(["tune", "r.toml", "--set", "outer.clip=0"], tmp_path)
    assert (job.code, job.output) == (1, "")
    assert job.errors.splitlines() == [
        "error: choose.values: should be a section, got 3",
        "error: inner.lr: should be a valid number, got 'x'",
        'error: learn.decays: unknown key; did you mean "decay"?',
        "error: outer.clip: should be greater than 0, got 0",
        "error: seed: should be greater than or equal to 0, got -1",
    ]
    (tmp_path / "r.toml").write_text("")
    assert "the recipe is empty" in commands.run(["tune", "r.toml"], tmp_path).errors


def test_print_recipe_reads_back_and_flags_override_the_file(commands: Any, tmp_path: Path) -> None:
    def printed(*arguments: str) -> Any:
        job = commands.run(["tune", *arguments, "--print-recipe"], tmp_path)
        assert (job.code, job.errors) == (0, "")
        return read_tuning(tomllib.loads(job.output))

    for name in ("clean", "choose"):
        assert printed(name) == read_tuning(read_toml(find_recipe("tuning", name)))
    (tmp_path / "r.toml").write_text("seed = 1\n[outer]\nsteps = 9\nlr = 0.5\n[learn.decay]\n")
    recipe = printed("r.toml", "--steps=7", "--set=outer.lr=0.25", "--set=outer.steps=8", "--data=t.csv", "--target=y")
    assert (recipe.seed, recipe.outer.steps, recipe.outer.lr, recipe.outer.clip) == (1, 7, 0.25, 10.0)
    assert (recipe.data.source, recipe.data.target, recipe.learn.names) == ("t.csv", "y", ("decay",))
    chosen = printed("choose", "--set=choose.values.inner.rule=['sgd', 'adamw']", "--seed=4")
    assert chosen.choose.values["inner.rule"] == ("sgd", "adamw") and chosen.seed == 4
    assert not (tmp_path / "runs").exists()


def test_a_printed_recipe_makes_the_same_run(commands: Any, first: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(commands.run(["tune", "clean", *QUICK, "--print-recipe"], tmp_path).output)
    assert commands.run(["tune", "r.toml", "--run=again", "--plain"], tmp_path).code == 0
    for name in ("learned.safetensors", "network.safetensors"):
        assert (tmp_path / "runs/again" / name).read_bytes() == (first / "runs/first" / name).read_bytes()


def test_export_and_its_refusal(commands: Any, first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("architecture.json", "network.safetensors", "network.py", "learned.safetensors", "learned.json")
    job = commands.run(["export", "first", "--to", str(out)], first)
    assert (job.code, job.output.split()) == (0, [str(out / name) for name in names])
    again = commands.run(["export", "first", "--to", str(out)], first)
    assert (again.code, again.output) == (1, "") and f"error: already there: {out}/learned.safetensors" in again.errors
    assert commands.run(["export", "first", "--to", str(out), "--force"], first).code == 0


def progress(run: Path, kind: str) -> int:
    return sum(event["kind"] == kind for event in read_events(run / "events.jsonl").events)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint_and_resume_goes_on(
    commands: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["tune", "clean", *SLOW, "--steps=60", "--set=checkpoint_seconds=1000", "--plain"]
    run = tmp_path / "runs/stopped"
    job = commands.start([*words, "--run=stopped"], tmp_path)
    job.until(lambda: progress(run, "step") >= 2)
    job.kill(number)
    assert job.wait() == code
    assert job.errors == "stopped with a checkpoint; go on with: metanas resume stopped\n"
    assert len(list((run / "checkpoints").glob("*.json"))) == 1
    assert read_events(run / "events.jsonl").events[-1]["status"] == "interrupted"
    again = commands.run(["resume", "stopped", "--plain"], tmp_path)
    assert again.code == 0 and "learned   mean weight " in again.output, again.errors
    assert commands.run([*words, "--run=whole"], tmp_path).code == 0
    for name in ("learned.safetensors", "network.safetensors", "learned.json"):
        assert (run / name).read_bytes() == (tmp_path / "runs/whole" / name).read_bytes()


def test_what_was_chosen_is_printed(commands: Any, tmp_path: Path) -> None:
    words = [*QUICK, "--set=choose.trials=2", "--set=choose.steps=1", "--set=choose.values.inner.lr=[0.1, 0.2]"]
    job = commands.run(["tune", "decay", *words, "--plain", "--run=first"], tmp_path)
    assert job.code == 0, job.errors
    assert "chosen    inner.lr = 0." in job.output and "study.journal" not in job.output
    assert (tmp_path / "runs/first/study.journal").exists()
    assert commands.run(["show", "first"], tmp_path).code == 0


def test_every_trial_failing_is_one_line(commands: Any, tmp_path: Path) -> None:
    words = [*QUICK, "--set=choose.values.network.options.widht=[1, 2]", "--plain"]
    job = commands.run(["tune", "decay", *words], tmp_path)
    assert job.code == 1 and job.errors.startswith("error: every trial failed (5 times: ")
    assert len(job.errors.splitlines()) == 1


def test_own_data_are_taken_as_they_are(commands: Any, tmp_path: Path) -> None:
    """Splits and wrong labels of a recipe that ships are those of its own data."""
    job = commands.run(["tune", "clean", "--data=photos.npz", "--set=data.test=30", "--print-recipe"], tmp_path)
    printed = read_tuning(tomllib.loads(job.output))
    assert printed.data.source == "photos.npz" and printed.data.wrong_labels == 0 and printed.data.test == 30
    own = read_tuning(tomllib.loads(commands.run(["tune", "clean", "--print-recipe"], tmp_path).output))
    assert own.data.wrong_labels == 0.4
