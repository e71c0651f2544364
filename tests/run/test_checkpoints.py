"""Nothing damaged, unsafe or half-written ever loads as a checkpoint (FAULTS 2, 4, 7, 8, 19)."""

import hashlib
import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch

from metanas.errors import CheckpointError, RunError
from metanas.run import checkpoints
from metanas.run.checkpoints import load, save


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def tree_of(step):
    return {"step": step, "omega": torch.full((3,), float(step)), "memory": [torch.arange(step % 5), (0.1, None)]}


def is_whole(found):
    return repr(found.tree) == repr(tree_of(found.step)) and found.event_offset == 10 * found.step


def saved(folder, *steps):
    for step in steps:
        save(folder, step, tree_of(step), event_offset=10 * step)


def file_of(folder, step, suffix):
    (path,) = folder.glob(f"step-{step:09d}*.{suffix}")
    return path


def test_two_are_kept_and_the_newest_loads(folder):
    assert load(folder) is None
    saved(folder, 1, 2, 10, 9_999_999_999)
    assert sorted(path.name[:11] for path in folder.iterdir()) == ["step-000000"] * 2 + ["step-999999"] * 2
    assert load(folder).step == 9_999_999_999 and load(folder).event_offset == 99_999_999_990
    file_of(folder, 9_999_999_999, "json").unlink()
    assert load(folder).step == 10


def test_a_step_saved_again_replaces_itself(folder):
    saved(folder, 1, 2)
    save(folder, 2, {"other": torch.ones(1)}, 0)
    assert load(folder).tree == {"other": torch.ones(1)} and len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_damage_falls_back_to_the_older_one_and_says_so(folder, suffix):
    saved(folder, 1, 2)
    path = file_of(folder, 2, suffix)
    whole = path.read_bytes()
    generator = random.Random(0)
    cuts = [whole[:size] for size in (0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1)]
    flips = []
    for position in {0, 1, 7, 8, 9, len(whole) - 1, *generator.sample(range(len(whole)), 60)}:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << generator.randrange(8)
        flips.append(bytes(flipped))
    for damaged in [*cuts, *flips, whole + b"x"]:
        path.write_bytes(damaged)
        found = load(folder)
        if found.step == 2:  # a flipped blank between JSON tokens, or a last newline, that changes no value
            assert suffix == "json" and json.loads(damaged) == json.loads(whole) and is_whole(found)
            continue
        assert found.step == 1 and is_whole(found)
        refused, back = found.warnings
        assert path.name in refused and "was refused: " in refused and back == "went back to the checkpoint of step 1"
    path.write_bytes(whole)
    assert load(folder).step == 2 and load(folder).warnings == ()


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_bit_in_every_byte_and_every_length(folder, suffix):
    """Length field, header, tensors, manifest: no byte is beside the hash, and no shorter file is a whole one."""
    save(folder, 1, {"omega": torch.ones(2)}, 0)
    save(folder, 2, {"omega": torch.full((3,), 2.0), "lr": 0.1}, 0)
    path = file_of(folder, 2, suffix)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    for position in range(len(whole)):
        for bit in range(8) if position < 10 else (position % 8, 7):
            damaged.append(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
    for data in damaged:
        path.write_bytes(data)
        found = load(folder)
        if found.step == 2:  # only what is no part of the JSON's value: a blank between two tokens
            assert suffix == "json" and json.loads(data) == json.loads(whole)
        else:
            assert found.step == 1 and len(found.warnings) == 2 and path.name in found.warnings[0]
    assert len(damaged) > 3 * len(whole)


def test_missing_tensors_fall_back_and_no_whole_checkpoint_is_an_error(folder):
    saved(folder, 1, 2)
    file_of(folder, 2, "safetensors").unlink()
    assert load(folder).step == 1
    file_of(folder, 1, "safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no usable checkpoint in .*step-000000002-.*step-000000001-.*start a new run"
    ):
        load(folder)


def test_after_a_fall_back_the_abandoned_future_is_removed(folder):
    saved(folder, 100, 200)
    file_of(folder, 200, "safetensors").write_bytes(b"")
    assert load(folder).step == 100
    saved(folder, 150)
    assert sorted({path.name[:14] for path in folder.iterdir()}) == ["step-000000100", "step-000000150"]
    assert load(folder).step == 150 and load(folder).warnings == ()


def resign(folder, step, data):
    """Puts `data` in place of the tensors with hashes that hold, as somebody who knows the format would."""
    manifest = file_of(folder, step, "json")
    body = json.loads(manifest.read_text())
    file_of(folder, step, "safetensors").unlink()
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"step-{step:09d}-{digest[:12]}.safetensors").write_bytes(data)
    body["tensors"] = {"bytes": len(data), "sha256": digest}
    rewrite(manifest, body)


def rewrite(manifest, body):
    body = {key: value for key, value in body.items() if key != "sha256"}
    manifest.write_text(json.dumps({**body, "sha256": checkpoints._digest(body)}))


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.fixture
def pickles(tmp_path):
    """Files that would create `executed` if anybody unpickled them."""
    target = tmp_path / "executed"
    torch.save({"a": Malicious(target)}, tmp_path / "torch.pt")
    contents = [pickle.dumps(Malicious(target), protocol) for protocol in (0, 2, 5)]
    contents.append((tmp_path / "torch.pt").read_bytes())
    assert zipfile.is_zipfile(tmp_path / "torch.pt")
    pickle.loads(contents[0]).close()
    assert target.exists(), "the pickle must be one that does something"
    target.unlink()
    return target, contents


def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_never_executed(folder, pickles):
    target, contents = pickles
    for data in contents:
        for signed in (False, True):
            saved(folder, 1, 2)
            if signed:
                resign(folder, 2, data)
            else:
                file_of(folder, 2, "safetensors").write_bytes(data)
            found = load(folder)
            assert found.step == 1 and "was refused" in found.warnings[0]
            assert not signed or "it is not a safetensors file; a pickle is never executed" in found.warnings[0]
            file_of(folder, 1, "json").write_bytes(data)
            with pytest.raises(CheckpointError, match="no usable checkpoint"):
                load(folder)
    assert not target.exists()


def test_unknown_files_are_not_opened_and_named(folder, pickles):
    target, contents = pickles
    folder.mkdir()
    (folder / "latest.pt").write_bytes(contents[0])
    with pytest.raises(CheckpointError, match=r"'latest\.pt' is no checkpoint and was not opened"):
        load(folder)
    saved(folder, 1)
    assert load(folder).step == 1
    assert load(folder).warnings == ("checkpoints: 'latest.pt' is no checkpoint and was not opened",)
    assert not target.exists()


def test_signed_nonsense_is_refused(folder):
    header = json.dumps({"0": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
    saved(folder, 1, 2)
    resign(folder, 2, struct.pack("<Q", len(header)) + header + b"\0" * 4)
    assert load(folder).step == 1
    for change in (
        {"tree": {"tensor": "99"}},
        {"tree": {"pickle": "x"}},
        {"tree": {"tensor": "0", "dict": []}},
        {"tree": {}},
        {"tree": {"dict": [[[], 1]]}},
        {"tensors": None},
        {"tensors": {"sha256": "../../../etc/passwd"}},
        {"step": 7},
        {"event_offset": "x"},
    ):
        saved(folder, 1, 2)
        manifest = file_of(folder, 2, "json")
        rewrite(manifest, json.loads(manifest.read_text()) | change)
        assert load(folder).step == 1, change


def test_a_newer_schema_says_which_version_reads_it_and_does_not_fall_back(folder):
    saved(folder, 1, 2)
    manifest = file_of(folder, 2, "json")
    rewrite(manifest, json.loads(manifest.read_text()) | {"schema": 2, "needs": "0.4"})
    with pytest.raises(RunError, match=r"step-000000002.json needs metanas >= 0\.4"):
        load(folder)


CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir")


class Broken(BaseException):
    """Stands for the end of the process: nothing but `finally` blocks may run, and those fail as well."""


@pytest.mark.parametrize("kind", ["killed", "disk full"])
def test_interrupted_at_every_system_call(folder, monkeypatch, kind):
    """Rows 2 and 4: whatever call is the last, the one before loads, or the new one does; the next save cleans up."""
    for last in range(100):
        for path in folder.iterdir() if folder.exists() else ():
            path.unlink()
        saved(folder, 1, 2)
        left = [last]

        def guard(original, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Broken if kind == "killed" else OSError(28, "No space left on device")
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, guard(getattr(os, name)))
            try:
                save(folder, 3, tree_of(3), 30)
            except Broken:
                pass
            except RunError as error:
                assert "disk full" in str(error)
        found = load(folder)
        assert found.step in (2, 3) and is_whole(found) and found.warnings == ()
        for step in checkpoints._steps(folder):
            assert is_whole(checkpoints._load_one(folder, step))
        saved(folder, 4)
        assert len(list(folder.iterdir())) == 4 and load(folder).step == 4
        if left[0] > 0:
            assert found.step == 3 and last > 12
            return
    pytest.fail("the save never ended")


def test_room_is_made_before_anything_is_written(folder, monkeypatch):
    saved(folder, 1)
    left = folder / "step-000000002-0123456789ab.safetensors"  # of a save that a kill or a full disk ended
    left.touch()

    def full(path, data):
        assert not left.exists()
        raise RunError("disk full")

    monkeypatch.setattr(checkpoints, "write_bytes", full)
    with pytest.raises(RunError, match="disk full"):
        saved(folder, 3)
    assert load(folder).step == 1 and load(folder).warnings == ()


def test_a_run_folder_that_is_gone_is_not_made_again(folder):
    with pytest.raises(RunError, match="may have been removed or moved"):
        save(folder.parent / "gone" / "checkpoints", 1, {}, 0)
    assert not (folder.parent / "gone").exists()


def test_a_negative_step_is_refused(folder):
    with pytest.raises(CheckpointError, match="step must be >= 0, got -1"):
        save(folder, -1, {}, 0)
