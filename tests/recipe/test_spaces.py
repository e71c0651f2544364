"""Space files: where they are found, in which order, and what one of somebody else's may do wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metanas.errors import SpaceError
from metanas.recipe.spaces import describe_space, find_space, folders, list_spaces, load_space, usual_settings
from metanas.space import Space

TINY = '''"""A tiny space.

More words.
"""
from metanas.space import NEEDED, Space, chain, one_of, op
def space(width: int = 2, **others):
    body = one_of("body", {"conv": op("conv", width=width, kernel=3), "skip": op("skip")})
    return Space(chain(("body", body), ("head", op("classifier", width=NEEDED))), "NAME")
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own, first in METANAS_SPACES."""
    monkeypatch.setenv("METANAS_SPACES", f"{tmp_path}{os.pathsep}{tmp_path / 'missing'}")
    return tmp_path


def test_shipped_spaces_are_found() -> None:
    assert {"nasbench201"} <= set(list_spaces())
    assert load_space("nasbench201", channels=4, cells=1).size == 15625
    assert folders()[-1].name == "search_spaces"


def test_path_then_own_folders_then_the_packages(own: Path) -> None:
    (own / "nasbench201.py").write_text(TINY.replace("NAME", "own"))
    (own / "sub").mkdir()
    path = own / "sub/nasbench201.py"
    path.write_text(TINY.replace("NAME", "path"))
    assert load_space("nasbench201").name == "own"
    assert load_space(str(path)).name == load_space(path).name == "path"
    assert find_space("nasbench201") == own / "nasbench201.py"


def test_a_listing_says_name_options_and_the_first_line(own: Path) -> None:
    (own / "tiny.py").write_text(TINY)
    (own / "_hidden.py").write_text("raise SystemError")
    assert "tiny" in list_spaces() and "_hidden" not in list_spaces()
    said = describe_space(own / "tiny.py")
    assert said.summary == "A tiny space." and said.options == {"width": 2}
    (own / "tiny.py").write_text(TINY.replace("width: int = 2", "width: int"))
    assert describe_space(own / "tiny.py").options == {"width": "?"}


def test_a_space_file_says_what_its_search_starts_from(own: Path) -> None:
    (own / "tiny.py").write_text(TINY + 'RECIPE = {"search.epochs": 3}\n')
    assert usual_settings("tiny") == usual_settings(own / "tiny.py") == {"search.epochs": 3}
    (own / "tiny.py").write_text(TINY)
    assert usual_settings("tiny") == {}
    for wrong in ("RECIPE = 3", "RECIPE = {3: 4}"):
        (own / "tiny.py").write_text(TINY + wrong)
        with pytest.raises(SpaceError, match="RECIPE must be a mapping of settings by dotted path"):
            usual_settings("tiny")
    with pytest.raises(SpaceError, match="no space named 'tyni'; allowed: tiny"):
        usual_settings("tyni")


def test_a_space_is_handed_through() -> None:
    space = load_space("nasbench201")
    assert load_space(space) is space
    with pytest.raises(SpaceError, match="a Space takes no options, got channels"):
        load_space(space, channels=3)


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no space named 'nasbench210'; did you mean \"nasbench201\""):
        load_space("nasbench210")
    with pytest.raises(SpaceError, match=r"no space file at .*no\.py; give a name \(.*nasbench201.*\) or a path"):
        load_space(tmp_path / "no.py")
    with pytest.raises(SpaceError, match="has no option 'chanels'; did you mean \"channels\""):
        load_space("nasbench201", chanels=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def space(: pass", "cannot be loaded: SyntaxError"),
        ("import nonexistent_module_x", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("def space(): raise SystemExit", "with options {}: SystemExit$"),
        ("\x00", "cannot be loaded: "),
        ("x = 3", r"needs a function space\(\*\*options\) -> Space"),
        ("space = 3", "needs a function space"),
        ("def space(): return 3", r"space\(\) must return a Space or a module, got int"),
        ("def space(): return {}['x']", "with options {}: KeyError: 'x'"),
        ("def space(): raise ValueError", "with options {}: ValueError$"),
        ("def space(): from metanas.space import chain; return chain()", "."),
    ],
)
def test_files_with_mistakes(own: Path, text: str, said: str) -> None:
    (own / "broken.py").write_text(text)
    with pytest.raises(SpaceError, match=said):
        load_space("broken")


@pytest.mark.parametrize("value", ["x", 0, -1, 1.5, True])
def test_a_wrong_value_of_an_option(value: object) -> None:
    with pytest.raises(SpaceError, match=r"operation .conv.: width must be (>= 1|a whole number), got "):
        load_space("nasbench201", channels=value, cells=1)
    with pytest.raises(SpaceError, match="nasbench201"):
        load_space("nasbench201", cells="x")


def test_any_option_goes_to_a_space_that_takes_all(own: Path) -> None:
    (own / "tiny.py").write_text(TINY)
    assert isinstance(load_space("tiny", width=3, depth=4), Space)
