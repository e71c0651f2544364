"""NAS-Bench-201 strings and DARTS genotypes as text: what they mean, what is wrong with others, and back."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.errors import SpaceError
from metanas.space import Space
from metanas.space.importing import (
    DARTS_FORM,
    DARTS_OPERATIONS,
    NASBENCH201_FORM,
    NASBENCH201_OPERATIONS,
    from_genotype,
    from_nasbench201,
    to_genotype,
)

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
PAIRS = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 4


@pytest.fixture(scope="module")
def nasbench201(problems) -> Space:
    return problems.nasbench201()


@pytest.fixture(scope="module")
def darts(problems) -> Space:
    return problems.darts()


def test_the_words_are_those_of_the_spaces(nasbench201, darts):
    assert {c.candidates for c in nasbench201.choices} == {NASBENCH201_OPERATIONS}
    assert {c.options for c in darts.choices if "<-" in c.name} == {DARTS_OPERATIONS}


def test_nasbench201_strings_round_trip(nasbench201):
    rng = np.random.default_rng(0)
    for _ in range(50):
        architecture = nasbench201.sample(rng)
        assert nasbench201.architecture(from_nasbench201(str(architecture))) == architecture


def test_genotypes_round_trip(darts):
    rng = np.random.default_rng(0)
    for _ in range(50):
        architecture = darts.sample(rng)
        text = to_genotype(architecture)
        assert darts.architecture(from_genotype(text)) == architecture
        assert to_genotype(darts.architecture(from_genotype(text))) == text


def test_what_a_genotype_means():
    """Two pairs a node, in order: node 2 is the first that may read node 2 is node 3."""
    taken = from_genotype(DARTS_V2)
    assert taken == {
        "normal.2": ("0", "1"), "normal.2<-0": "sep_conv_3x3", "normal.2<-1": "sep_conv_3x3",
        "normal.3": ("0", "1"), "normal.3<-0": "sep_conv_3x3", "normal.3<-1": "sep_conv_3x3",
        "normal.4": ("0", "1"), "normal.4<-1": "sep_conv_3x3", "normal.4<-0": "skip_connect",
        "normal.5": ("0", "2"), "normal.5<-0": "skip_connect", "normal.5<-2": "dil_conv_3x3",
        "reduce.2": ("0", "1"), "reduce.2<-0": "max_pool_3x3", "reduce.2<-1": "max_pool_3x3",
        "reduce.3": ("1", "2"), "reduce.3<-2": "skip_connect", "reduce.3<-1": "max_pool_3x3",
        "reduce.4": ("0", "2"), "reduce.4<-0": "max_pool_3x3", "reduce.4<-2": "skip_connect",
        "reduce.5": ("1", "2"), "reduce.5<-2": "skip_connect", "reduce.5<-1": "max_pool_3x3",
    }  # fmt: skip


FORM = f"the form is {DARTS_FORM}"
ALLOWED = ", ".join(NASBENCH201_OPERATIONS)
STRINGS = {
    "misspelt": (
        CELL.replace("skip_connect", "skip_conect"),
        "character 26: 'skip_conect' is no operation; did you mean \"skip_connect\"?",
    ),
    "unknown": (CELL.replace("none", "zero"), f"character 19: 'zero' is no operation; allowed: {ALLOWED}"),
    "cut": (CELL[:-3], f"character 85: expected '~2|', got the end; the form is {NASBENCH201_FORM}"),
    "wrong input": (
        CELL.replace("~2", "~1"),
        f"character 85: expected '~2|', got '~1|'; the form is {NASBENCH201_FORM}",
    ),
    "more": (f"{CELL}+", "character 88: it should end here, got '+'"),
    "more after space": (f"  {CELL}|x", "character 90: it should end here, got '|x'"),
    "empty": ("", f"character 1: expected '|', got the end; the form is {NASBENCH201_FORM}"),
    "escapes": (
        "|" + "\x1b" * 99,
        f"character 2: '{9 * (chr(92) + 'x1b')}{chr(92)}x1... is no operation; allowed: {ALLOWED}",
    ),
}


def changed(old: str, new: str) -> str:
    assert old in DARTS_V2
    return DARTS_V2.replace(old, new, 1)


FIRST, SECOND, CONCAT = "('sep_conv_3x3', 0)", "('sep_conv_3x3', 1)", "normal_concat=[2, 3, 4, 5]"
EIGHT = "normal must hold 8 pairs (operation, input), two for each of four nodes; got"
LITERALS = f"must hold words and numbers alone; {FORM}"
NEVER = {
    "misspelt": (
        changed("dil_conv_3x3", "dil_conv_3X3"),
        "normal, node 5 at character 165: 'dil_conv_3X3' is no operation; did you mean \"dil_conv_3x3\"?",
    ),
    "none": (
        changed("'sep_conv_3x3'", "'none'"),
        "normal, node 2 at character 18: 'none' is no operation; it is never derived",
    ),
    "input": (
        changed(SECOND, "('x', 2)").replace("'x'", "'sep_conv_3x3'"),
        "normal, node 2 at character 39: the input must be 0 to 1, got 2",
    ),
    "twice": (
        changed(SECOND, FIRST),
        "normal, node 2 at character 39: input 0 twice; in the space 'darts' a node has two different inputs",
    ),
    "word": (changed("3', 1)", "3', '1')"), "normal, node 2 at character 39: the input must be 0 to 1, got '1'"),
    "seven": (changed(f"{SECOND}, ", ""), f"{EIGHT} 7"),
    "concat": (
        changed(CONCAT, "normal_concat=range(3, 6)"),
        "normal_concat must be 2, 3, 4, 5: a cell gives all its nodes; got range(3, 6)",
    ),
    "missing": (changed("reduce=", "reduced="), f"a genotype needs reduce; {FORM}"),
    "call": (changed(FIRST, "print('x')"), f"normal at character 17 {LITERALS}"),
    "power": (changed("[2, 3, 4, 5]", "range(2, 10**9)"), f"normal_concat at character 201 {LITERALS}"),
    "long range": (changed("[2, 3, 4, 5]", "range(2, 600)"), f"normal_concat at character 201 {LITERALS}"),
    "field twice": (
        changed(CONCAT, "normal=[]"),
        f"a genotype has the fields normal, normal_concat, reduce, reduce_concat, each once; {FORM}",
    ),
    "two": (f"{DARTS_V2}; {DARTS_V2}", f"a genotype is one call or one dict; {FORM}"),
    "sum": (f"{DARTS_V2} + 1", f"a genotype is one call or one dict; {FORM}"),
    "cut": (
        f"\n{DARTS_V2[:31]}",
        "the genotype stops making sense at character 20 (unterminated string literal (detected at line 1)); " + FORM,
    ),
    "long": ("x" * 20_001, "a genotype has at most 20,000 characters, got 20,001"),
    "nothing": (None, f"a genotype needs normal; {FORM}"),
    "half": ({"normal": PAIRS}, f"a genotype needs reduce; {FORM}"),
    "number": ({"normal": 7, "reduce": PAIRS}, f"{EIGHT} 0"),
    "no pair": (
        {"normal": [*PAIRS[:-1], 3], "reduce": PAIRS},
        "normal, node 5: expected a pair (operation, input), got 3",
    ),
    "bool": (
        {"normal": [*PAIRS[:-1], ("skip_connect", True)], "reduce": PAIRS},
        "normal, node 5: the input must be 0 to 4, got True",
    ),
    "list": (
        {"normal": [*PAIRS[:-1], (["a"], 1)], "reduce": PAIRS},
        f"normal, node 5: ['a'] is no operation; allowed: {', '.join(DARTS_OPERATIONS)}",
    ),
}
NESTED = [tuple(PAIRS[k : k + 2]) for k in range(0, 8, 2)]


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(f"Genotype(normal={PAIRS}, normal_concat=range(2, 6), reduce={PAIRS})", id="text"),
        pytest.param(
            f"\n A = Genotype(normal={PAIRS}, normal_concat=list(range(2, 6)), reduce={PAIRS})\n", id="assigned"
        ),
        pytest.param(f"genotypes.Genotype({PAIRS}, [2, 3, 4, 5], {PAIRS}, [5, 4, 3, 2])", id="in order"),
        pytest.param(repr({"normal": PAIRS, "reduce": PAIRS}), id="text of a dict"),
        pytest.param(f"Genotype(normal={NESTED}, reduce={NESTED}, connectN=None)", id="nested"),
        pytest.param(f"Genotype(normal={[(*p, 0.13) for p in PAIRS]}, reduce={[[*p] for p in PAIRS]})", id="weights"),
        pytest.param(Genotype(PAIRS, range(2, 6), PAIRS, range(2, 6)), id="namedtuple"),
        pytest.param({"normal": NESTED, "reduce": PAIRS}, id="dict"),
        pytest.param({"normal": [(op, np.int64(j)) for op, j in PAIRS], "reduce": PAIRS}, id="numpy"),
        pytest.param({"normal": [PAIRS[k ^ 1] for k in range(8)], "reduce": PAIRS}, id="pairs swapped"),
    ],
)
def test_all_ways_to_write_one_genotype(written):
    row = {"2": ("0", "1"), "3": ("0", "1"), "4": ("0", "1"), "5": ("0", "1")}
    cells = {f"{kind}.{node}": sources for kind in ("normal", "reduce") for node, sources in row.items()}
    operations = {f"{cell}<-{k}": op for cell in cells for k, op in enumerate(("sep_conv_3x3", "skip_connect"))}
    assert from_genotype(written) == cells | operations


@pytest.mark.parametrize("which", STRINGS)
def test_strings_that_are_none_of_nasbench201(which):
    text, said = STRINGS[which]
    with pytest.raises(SpaceError) as error:
        from_nasbench201(text)
    assert str(error.value) == f"NAS-Bench-201 string, {said}"


@pytest.mark.parametrize("which", NEVER)
def test_what_is_no_genotype(which):
    written, said = NEVER[which]
    with pytest.raises(SpaceError) as error:
        from_genotype(written)
    assert str(error.value) == said


def test_an_architecture_of_another_space_has_no_genotype(nasbench201):
    with pytest.raises(
        SpaceError, match=r"^no choice 'normal.2': only architectures of the space 'darts' have a genotype$"
    ):
        to_genotype(nasbench201.sample(np.random.default_rng(0)))


def test_nothing_is_run(tmp_path: Path):
    made = tmp_path / "made"
    with pytest.raises(SpaceError, match=r"^normal at character 17 must hold words and numbers alone"):
        from_genotype(changed("('sep_conv_3x3', 0)", f"open({str(made)!r}, 'w')"))
    assert not made.exists()


def test_cuts_of_strings_are_refused_in_words():
    """Whatever part is missing: a SpaceError, or what is left is whole."""
    for k in range(len(CELL)):
        with pytest.raises(SpaceError):
            from_nasbench201(CELL[:k])
        with pytest.raises(SpaceError):
            from_nasbench201(CELL[:k] + CELL[k + 1 :])
    for k in range(len(DARTS_V2)):
        with pytest.raises(SpaceError):
            from_genotype(DARTS_V2[:k])
    rng = np.random.default_rng(0)
    whole = 0
    for _ in range(300):
        a, b = sorted(rng.integers(0, len(DARTS_V2) + 1, size=2))
        try:
            from_genotype(DARTS_V2[:a] + DARTS_V2[b:])
            whole += 1
        except SpaceError:
            pass
    assert whole <= 10, "a cut of a space, or of nothing"


STRANGE = {
    "deep": "(" * 9_000,
    "signs": "-" * 9_000 + "1",
    "lists": "[" * 90 + "]" * 90,
    "long number": "9" * 9_000,
    "nul": "\0",
    "star": "f(*a)",
    "stars": "f(**a)",
    "dict": "{**a}",
    "f-string": "f'{x}'",
    "escape": "'\\d'",
    "called number": "((1)(2))",
}


@pytest.mark.parametrize("which", STRANGE)
def test_strange_python_is_refused_in_words(which):
    text = STRANGE[which]
    for written in (text, f"Genotype(normal={text}, reduce=[])"):
        with pytest.raises(SpaceError):
            from_genotype(written)


@given(st.text())
def test_any_text_is_refused_in_words(text):
    for parse in (from_nasbench201, from_genotype):
        with pytest.raises(SpaceError) as error:
            parse(text)
        assert "\n" not in str(error.value)
