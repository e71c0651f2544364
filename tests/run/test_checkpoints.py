"""Checkpoints round trip exactly, and nothing damaged, unsafe or half-written loads (FAULTS 2, 4, 7, 8, 12, 19, 20)."""

import hashlib
import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import CheckpointError, RunError
from metanas.run import checkpoints
from metanas.run.checkpoints import load, load_network, save, save_network

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
]


def same(a, b):
    """Equal in type, structure, dtype, shape and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a, b)) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)  # tells -0.0 from 0.0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def tree_of(step):
    return {"step": step, "omega": torch.full((3,), float(step)), "memory": [torch.arange(step % 5), (0.1, None)]}


def saved(folder, *steps):
    for step in steps:
        save(folder, step, tree_of(step), event_offset=10 * step)


def file_of(folder, step, suffix):
    (path,) = folder.glob(f"step-{step:09d}*.{suffix}")
    return path


def test_same_is_strict():
    assert not same({"a": 0.0}, {"a": -0.0}) and not same([1], (1,)) and not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(torch.zeros(1), torch.zeros(1, dtype=torch.float64)) and not same(1, True)
    assert not same(torch.tensor([0.0]), torch.tensor([-0.0])) and same([torch.ones(2)], [torch.ones(2)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_layout_round_trips(folder, dtype):
    base = (torch.arange(24) % 3).to(dtype).reshape(4, 6)
    tree = {
        "plain": base,
        "0-d": base[0, 1].clone(),
        "empty": [torch.empty(0, dtype=dtype), torch.empty(3, 0, 2, dtype=dtype)],
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "expanded": base[:1].expand(5, 6),
        "a view of 0-d": base[2, 2],
        "overlapping views": (base[:2], base[1:3], base),
    }
    save(folder, 1, tree, 0)
    found = load(folder).tree
    assert same({key: value for key, value in found.items()}, {k: contiguous(v) for k, v in tree.items()})


def contiguous(value):
    if isinstance(value, torch.Tensor):
        return value.contiguous()
    return type(value)(map(contiguous, value))


def test_parameters_come_back_as_plain_tensors_and_tied_ones_stay_tied(folder):
    weight = torch.nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    save(folder, 1, {"a": weight, "b": weight, "c": weight.detach(), "d": weight.detach().clone()}, 0)
    found = load(folder).tree
    assert type(found["a"]) is torch.Tensor and not found["a"].requires_grad
    assert found["a"] is found["b"] is found["c"] is not found["d"] and torch.equal(found["d"], weight)


def test_the_state_of_torch_objects_round_trips(folder):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 3)).square().sum().backward()
    adam.step()
    generator = torch.Generator().manual_seed(3)
    tree = {"net": dict(net.state_dict()), "adam": adam.state_dict(), "generator": generator.get_state()}
    save(folder, 1, tree, 0)
    found = load(folder).tree
    assert same(found, tree) and list(found["adam"]["state"]) == [0, 1, 2, 3]
    net.load_state_dict(found["net"])
    adam.load_state_dict(found["adam"])
    generator.set_state(found["generator"])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TENSORS = st.builds(
    lambda dtype, shape: (torch.arange(torch.Size(shape).numel()) % 2).to(dtype).reshape(shape),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
)
TREES = st.recursive(
    SCALARS | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(["tensor", "dict", "tuple"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(tree=TREES, step=st.integers(0, 10**12), offset=st.integers(0, 10**12))
def test_any_tree_round_trips(tmp_path_factory, tree, step, offset):
    folder = tmp_path_factory.mktemp("checkpoints")
    save(folder, step, tree, offset)
    found = load(folder)
    assert same(found.tree, tree) and (found.step, found.event_offset, found.warnings) == (step, offset, ())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.tensor([1.0, float("nan"), float("inf")]), r"tree\['theta'\]\[1\]: 2 of 3 values are not finite"),
        (torch.tensor(float("-inf"), dtype=torch.bfloat16), "1 of 1 values are not finite"),
        (float("nan"), r"tree\['theta'\]\[1\] is nan"),
        (float("inf"), "is inf; a checkpoint holds finite numbers only"),
        ({1.5}, r"is a builtins\.set; a checkpoint holds dict, list"),
        (object(), r"is a builtins\.object"),
        ({(1, 2): 3}, r"tree\['theta'\]\[1\] has the key \(1, 2\); keys must be str or int"),
        ({True: 3}, "has the key True"),
        (torch.zeros(2, dtype=torch.complex64), "is a torch.complex64 torch.strided tensor on cpu"),
        (torch.empty(2, device="meta"), "tensor on meta"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo tensor"),
    ],
    ids=str,
)
def test_what_may_not_be_in_a_checkpoint_is_named_by_its_place(folder, bad, message):
    saved(folder, 1)
    with pytest.raises(CheckpointError, match=message):
        save(folder, 2, {"theta": [0, bad]}, 0)
    assert load(folder).step == 1 and len(list(folder.iterdir())) == 2


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
            assert suffix == "json" and json.loads(damaged) == json.loads(whole) and same(found.tree, tree_of(2))
            continue
        assert found.step == 1 and same(found.tree, tree_of(1))
        refused, back = found.warnings
        assert path.name in refused and "was refused: " in refused and back == "went back to the checkpoint of step 1"
    path.write_bytes(whole)
    assert load(folder).step == 2 and load(folder).warnings == ()


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
        assert found.step in (2, 3) and same(found.tree, tree_of(found.step)) and found.warnings == ()
        for step in checkpoints._steps(folder):
            assert same(checkpoints._load_one(folder, step).tree, tree_of(step))
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


def test_networks_round_trip_with_tied_weights(tmp_path):
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    save_network(tmp_path / "n", {"a": weight, "b": weight.t(), "c": weight, "n": torch.tensor(3)})
    found = load_network(tmp_path / "n", {"a": (2, 3), "b": (3, 2), "c": [2, 3], "n": ()})
    assert same(found["a"], weight.detach()) and same(found["b"], weight.detach().t().contiguous()) and found["n"] == 3


def test_every_mismatch_of_a_network_is_listed(tmp_path):
    save_network(tmp_path / "n", {"a": torch.ones(2), "b\x1b": torch.ones(2), "c": torch.ones(2, 1)})
    with pytest.raises(CheckpointError) as caught:
        load_network(tmp_path / "n", {"a": (2,), "c": (2,), "d": (), "e": (1,)})
    problems = r"d is missing; e is missing; b\x1b is unexpected; c has shape (2, 1), expected (2,)"
    assert str(caught.value) == f"n does not fit: {problems}"


def test_a_network_that_is_a_pickle_or_not_finite_is_refused(tmp_path, pickles):
    target, contents = pickles
    for data in contents:
        (tmp_path / "n").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a safetensors file; a pickle is never executed"):
            load_network(tmp_path / "n", {})
    assert not target.exists()
    with pytest.raises(CheckpointError, match=r"weights\['a'\]: 1 of 1 values are not finite"):
        save_network(tmp_path / "n", {"a": torch.tensor([float("inf")])})
    with pytest.raises(RunError, match="cannot read"):
        load_network(tmp_path / "gone", {})
