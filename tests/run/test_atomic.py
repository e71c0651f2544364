"""Files are there whole or not at all (FAULTS rows 4 and 39)."""

import errno
import json
import math
import os
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import RunError
from metanas.run import dump_json, finite, parse_json, read_json, remove_leftovers, write_bytes, write_json

SETTINGS = settings(deadline=None, derandomize=True, max_examples=50)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@pytest.fixture
def small_files():
    """A disk on which no file may grow over 1000 bytes: writes fail half-way, as on a full one."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, small_files):
    path = tmp_path / "a.json"
    write_bytes(path, b"old")
    with pytest.raises(RunError, match=r"disk full: cannot write .*a\.json; .* intact; free some space"):
        write_bytes(path, b"x" * 5000)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT])
def test_an_error_of_any_system_call_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(RunError, match=r"cannot write .*a\.json") as caught:
            write_bytes(path, b"new")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.json"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_file_and_folder_are_synced_in_the_right_order(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: calls.append(os.readlink(f"/proc/self/fd/{d}")) or fsync(d))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append("rename") or replace(a, b))
    write_bytes(tmp_path / "a", b"")
    assert len(calls) == 3 and calls[0].endswith(".tmp") and calls[1:] == ["rename", str(tmp_path)]


def test_a_folder_that_is_gone_is_said_to_be_gone(tmp_path):
    with pytest.raises(RunError, match="may have been removed or moved"):
        write_bytes(tmp_path / "gone" / "a", b"")


def test_only_leftovers_are_removed(tmp_path):
    for name in (".a.json.0a1b.tmp", "a.tmp", ".hidden", "b.json"):
        (tmp_path / name).touch()
    (tmp_path / ".export-x.tmp").mkdir()
    (tmp_path / ".export-x.tmp/half").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "kept")
    assert remove_leftovers(tmp_path) == (".a.json.0a1b.tmp", ".export-x.tmp", ".link.tmp")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.tmp", "b.json", "kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]
    assert remove_leftovers(tmp_path / "gone") == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), {1, 2}, b"x"])
def test_what_is_not_json_is_never_written(tmp_path, value):
    write_json(tmp_path / "a", {"old": 1})
    with pytest.raises(RunError, match="cannot be written as JSON"):
        write_json(tmp_path / "a", {"loss": value})
    assert read_json(tmp_path / "a") == {"old": 1}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "NaN", '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, "\xff", "null"]
)
def test_a_damaged_document_is_one_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_finite_names_what_was_lost():
    fields = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": [1.0, [math.inf]], "f": {"x": math.nan}}
    assert finite(fields) == {
        "a": None,
        "a_is": "nan",
        "b": None,
        "b_is": "inf",
        "c": None,
        "c_is": "-inf",
        "d": 1.5,
        "e": [1.0, [None]],
        "e_is": "inf",
        "f": {"x": None},
        "f_is": "nan",
    }


@SETTINGS
@given(st.dictionaries(st.text(), VALUES))
def test_finite_values_are_strict_inert_json_and_round_trip(fields):
    value = finite(fields)
    text = dump_json(value)
    assert text.isascii() and text.isprintable()
    assert parse_json(text) == value == json.loads(text)
