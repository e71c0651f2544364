"""What a checkpoint holds comes back bit for bit, and what it may not hold is named (FAULTS 12 and 20)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import CheckpointError
from metanas.run.checkpoints import load, save

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


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
    ids=[
        "nan among numbers",
        "bfloat16 -inf",
        "nan",
        "inf",
        "set",
        "object",
        "tuple key",
        "bool key",
        "complex",
        "meta",
        "sparse",
    ],
)
def test_what_may_not_be_in_a_checkpoint_is_named_by_its_place(folder, bad, message):
    save(folder, 1, {}, 0)
    with pytest.raises(CheckpointError, match=message):
        save(folder, 2, {"theta": [0, bad]}, 0)
    assert load(folder).step == 1 and len(list(folder.iterdir())) == 2
