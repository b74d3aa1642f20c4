"""What JAX programs keep is captured without loss, and restored as what it was."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402
import optax  # noqa: E402
from flax import nnx, struct  # noqa: E402
from flax.core import FrozenDict, freeze  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

import keepfast  # noqa: E402
from keepfast.tree import flatten, leaves  # noqa: E402
from keepfast_jax import JaxBackend  # noqa: E402

backend = JaxBackend()


def host(module: Any) -> Any:
    """Return what a checkpoint would hold of a module."""
    return backend.host_copy(backend.capture(module))


def round_trip(module: Any, template: Any) -> Any:
    """Return what a template becomes by a restore of the module's state, after its own was checked to be plain."""
    saved = host(module)
    assert {type(leaf) for _, leaf in leaves(saved)} <= {np.ndarray, int, float, complex, bool, str, bytes, type(None)}
    assert_plain(saved)
    restored = backend.restore(template, saved)
    assert_same(host(restored), saved)
    return restored


def assert_plain(tree: Any) -> None:
    """Check that every container is of a type that a reader without JAX knows."""
    if isinstance(tree, dict | list | tuple):
        assert type(tree) in (dict, list, tuple)
        for child in tree.values() if isinstance(tree, dict) else tree:
            assert_plain(child)


def assert_same(actual: Any, expected: Any) -> None:
    """Check that two trees have the same paths, and at each of them a leaf of the same type and bits."""
    assert bits(actual) == bits(expected)


def bits(tree: Any) -> dict[str, Any]:
    """Return what every leaf of a host tree is made of."""
    return {
        path: (leaf.dtype, leaf.shape, leaf.tobytes()) if isinstance(leaf, np.ndarray) else (type(leaf), repr(leaf))
        for path, leaf in flatten(tree).items()
    }


class Moments(NamedTuple):
    mean: Any
    count: Any


@struct.dataclass
class Runner:
    params: Any
    epoch: int
    scale: float
    tx: Any = struct.field(pytree_node=False)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Carry:
    state: Any
    name: str = dataclasses.field(metadata={"static": True}, default="")


@jax.tree_util.register_pytree_node_class
class Pair:
    """A node whose children JAX knows by position only."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def tree_flatten(self) -> tuple[tuple[Any, Any], None]:
        return (self.first, self.second), None

    @classmethod
    def tree_unflatten(cls, _aux: None, children: tuple[Any, Any]) -> Pair:
        return cls(*children)


def test_named_tuples_and_dataclasses_become_dictionaries_keyed_by_field() -> None:
    """A reader of the file needs none of the types."""
    runner = Runner({"w": jnp.ones(2)}, 3, 0.5, "static")
    assert host({"moments": Moments(jnp.zeros(1), 2), "runner": runner, "carry": Carry(jnp.ones(1), "x")}) == {
        "moments": {"mean": np.zeros(1), "count": 2},
        "runner": {"params": {"w": pytest.approx(np.ones(2))}, "epoch": 3, "scale": 0.5},
        "carry": {"state": np.ones(1)},
    }


def test_static_fields_come_from_the_template() -> None:
    """Functions and names are not state: the module that is restored brings its own."""
    saved = Runner({"w": jnp.ones(2)}, 3, 0.5, "saved's")
    restored = round_trip(saved, Runner({"w": jnp.zeros(2)}, 0, 0.0, "template's"))
    assert (type(restored), restored.tx, restored.epoch, restored.scale) == (Runner, "template's", 3, 0.5)
    assert round_trip(Carry(jnp.ones(2), "saved's"), Carry(jnp.zeros(2), "template's")).name == "template's"


def test_children_without_names_are_keyed_by_position() -> None:
    """A custom pytree node needs to tell no names."""
    restored = round_trip(Pair(jnp.ones(2), None), Pair(jnp.zeros(2), None))
    assert host(restored) == {0: pytest.approx(np.ones(2)), 1: None}
    assert isinstance(restored, Pair)


def test_integer_keys_stay_integers_and_other_keys_become_text() -> None:
    """Keys in a file are strings and integers; the restored dictionary has the module's own keys."""
    made = {1: jnp.ones(1), "1x": [jnp.zeros(1), (jnp.ones(2), 7)], ("Dense_0", "kernel"): jnp.ones(3)}
    assert list(host(made)) == [1, "1x", "('Dense_0', 'kernel')"]
    template = {1: jnp.zeros(1), "1x": [jnp.ones(1), (jnp.zeros(2), 0)], ("Dense_0", "kernel"): jnp.zeros(3)}
    restored = round_trip(made, template)
    assert list(restored) == [1, "1x", ("Dense_0", "kernel")]
    assert type(restored["1x"]) is list
    assert type(restored["1x"][1]) is tuple


def test_dictionary_keys_that_read_the_same_lose_nothing() -> None:
    """Where two keys have one name, positions are the names."""
    assert host({np.int64(1): 10, "1": 20}) == {0: 10, 1: 20}


def test_every_kind_of_mapping_comes_back_as_its_own_type() -> None:
    """OrderedDict, defaultdict, Counter, FrozenDict and nnx.State are plain in the file, and themselves after it."""
    ordered = round_trip(OrderedDict(b=jnp.ones(1), a=jnp.zeros(1)), OrderedDict(b=jnp.zeros(1), a=jnp.ones(1)))
    assert (type(ordered), list(ordered)) == (OrderedDict, ["b", "a"])
    default = round_trip({"d": defaultdict(list, a=jnp.ones(1))}, {"d": defaultdict(list, a=jnp.zeros(1))})["d"]
    assert default["unseen"] == []
    assert round_trip(Counter(a=3), Counter(a=0)) == Counter(a=3)
    frozen = round_trip(freeze({"p": {0: jnp.ones(1)}}), freeze({"p": {0: jnp.zeros(1)}}))
    assert isinstance(frozen, FrozenDict)
    assert frozen["p"][0] == 1.0
    state = round_trip(nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(0))), nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(1))))
    assert isinstance(state, nnx.State)
    assert isinstance(state["kernel"], nnx.Param)


def test_an_nnx_state_is_replaced_without_touching_the_module_it_was_taken_from() -> None:
    """A State may hold the live variables of a module; they are not written to."""
    module = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    before = np.array(module.kernel[...])
    restored = backend.restore(nnx.state(module), {"kernel": np.full((1, 1), 9, np.float32), "bias": np.zeros(1, "f4")})
    assert restored["kernel"][...] == 9
    assert np.array(module.kernel[...]) == before


def test_none_is_recorded_so_that_an_array_in_its_place_is_a_mismatch(tmp_path: Any) -> None:
    """None is an entry, not an absence."""
    assert flatten(host({"a": None, "b": Moments(None, 1)})) == {"a": None, "b.mean": None, "b.count": 1}
    path = keepfast.save({"w": jnp.ones(1), "a": jnp.ones(2)}, tmp_path / "agent.safetensors")
    with pytest.raises(keepfast.LoadMismatch, match="a: kind: the module has NoneType None, the file has float32"):
        keepfast.load({"w": jnp.ones(1), "a": None}, path)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int16", "uint32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "complex64"],
)
def test_every_dtype_keeps_its_bits(dtype: str) -> None:
    """Machine-learning dtypes travel as NumPy arrays of ml_dtypes."""
    array = jnp.arange(6).reshape(2, 3).astype(dtype)
    saved = host({"a": array})["a"]
    assert (saved.dtype, saved.shape) == (jnp.dtype(dtype), (2, 3))
    restored = backend.restore({"a": jnp.zeros((2, 3), dtype)}, {"a": saved})["a"]
    assert restored.dtype == array.dtype
    assert np.asarray(restored).tobytes() == np.asarray(array).tobytes()


def test_special_floats_keep_their_bits_as_weak_scalars_too() -> None:
    """A negative zero, an infinity and a number that float64 would round are what they were."""
    values = [jnp.asarray(value) for value in (-0.0, float("inf"), 0.1)]
    restored = round_trip(values, [jnp.asarray(1.0)] * 3)
    assert [np.asarray(value).tobytes() for value in restored] == [np.asarray(value).tobytes() for value in values]


def test_numpy_arrays_and_scalars_come_back_as_numpy() -> None:
    """The template decides the kind, 64 bits included."""
    made = (np.arange(3.0), np.float64(0.1), np.int8(3), ml_dtypes.bfloat16(2))
    restored = round_trip(made, (np.zeros(3), np.float64(0), np.int8(0), ml_dtypes.bfloat16(0)))
    assert [type(value) for value in restored] == [np.ndarray, np.float64, np.int8, ml_dtypes.bfloat16]
    assert restored[1:] == made[1:]


def test_python_numbers_stay_python_numbers() -> None:
    """A counter that was an int is an int, and takes the value of a 0-d array where the file has one."""
    made = (3, 0.1, True, 1 + 2j, "s", b"b")
    assert round_trip(made, (0, 0.0, False, 0j, "", b"")) == made
    (restored,) = backend.restore((0,), (np.array(2.5, np.float32),))
    assert (type(restored), restored) == (float, 2.5)


@pytest.mark.parametrize("template", [jnp.zeros(()), jnp.array(0.0)], ids=["strong", "weak"])
@pytest.mark.parametrize("saved", [jnp.full((), 0.5, jnp.float32), jnp.array(0.5)], ids=["strong", "weak"])
def test_a_scalar_has_the_weak_type_it_was_saved_with(saved: Any, template: Any) -> None:
    """Weak types decide the dtype of what comes next, so a resumed run needs those of the run it resumes."""
    (restored,) = backend.restore((template,), host((saved,)))
    assert (restored.weak_type, restored.dtype, float(restored)) == (saved.weak_type, saved.dtype, 0.5)
    assert (restored * jnp.ones((), jnp.bfloat16)).dtype == (saved * jnp.ones((), jnp.bfloat16)).dtype


def test_a_python_number_takes_the_dtype_of_an_array_it_does_not_weakly_have() -> None:
    """A step saved as an int fits into a template of any integer or floating dtype."""
    for dtype in (jnp.uint8, jnp.bfloat16, jnp.float32):
        (restored,) = backend.restore((jnp.zeros((), dtype),), (7,))
        assert (restored.dtype, restored.weak_type, int(restored)) == (jnp.dtype(dtype), False, 7)


def test_an_array_with_dimensions_comes_back_strongly_typed() -> None:
    """As an optimizer leaves it after its first update, whatever the initial value was."""
    (restored,) = backend.restore((jnp.full((2,), 0.0),), host((jnp.full((2,), 0.5),)))
    assert not restored.weak_type


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_random_keys_go_on_with_the_same_numbers(impl: str) -> None:
    """Of a key its data and the name of its implementation travel; whole arrays of keys too."""
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    saved = host({"keys": keys})
    assert saved["keys"]["impl"] == impl
    assert saved["keys"]["key_data"].dtype == np.uint32
    restored = round_trip({"keys": keys}, {"keys": jax.random.split(jax.random.key(0, impl=impl), 4)})["keys"]
    assert restored.dtype == keys.dtype
    assert (jax.random.normal(restored[2], (3,)) == jax.random.normal(keys[2], (3,))).all()


def test_a_key_of_another_implementation_is_refused() -> None:
    """The same data mean other numbers there."""
    saved = host((jax.random.key(0, impl="rbg"),))
    with pytest.raises(keepfast.LoadMismatch, match="`rbg` do not fit into those of `unsafe_rbg`"):
        backend.restore((jax.random.key(0, impl="unsafe_rbg"),), saved)


@pytest.mark.parametrize("impl", ["threefry2x32", "unsafe_rbg"])
def test_a_key_of_another_implementation_is_told_with_all_else(impl: str, tmp_path: Any) -> None:
    """It is found before anything is loaded; without `strict` it stays, and the rest is loaded."""
    path = keepfast.save({"w": jnp.ones(2), "key": jax.random.key(1, impl="rbg")}, tmp_path / "agent.safetensors")
    module = {"w": jnp.zeros(2), "key": jax.random.key(2, impl=impl)}
    told = rf"key\.key_data: kind: the module has random keys of `{impl}`, the file has random keys of `rbg`"
    with pytest.raises(keepfast.LoadMismatch, match=told):
        keepfast.load(module, path)
    assert module["w"].tolist() == [0, 0]
    report = keepfast.load(module, path, strict=False)
    assert (report.loaded, report.mismatched) == (["module.w"], ["module.key.impl", "module.key.key_data"])
    assert module["w"].tolist() == [1, 1]
    assert module["key"] == jax.random.key(2, impl=impl)


def test_legacy_random_keys_are_arrays() -> None:
    """jax.random.PRNGKey makes a plain uint32 array, and it is stored as one."""
    restored = round_trip((jax.random.PRNGKey(7),), (jax.random.PRNGKey(0),))
    assert (restored[0] == jax.random.PRNGKey(7)).all()


class Partitions(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
        return nn.BatchNorm(use_running_average=False)(nn.Dense(2, kernel_init=kernel)(x))


@pytest.mark.parametrize("frozen", [False, True])
def test_linen_variables_keep_collections_boxes_and_paths(frozen: bool) -> None:
    """Parameters, batch statistics and partitioned boxes come back under Flax's own names."""
    make = freeze if frozen else dict
    one, other = (make(Partitions().init(jax.random.key(seed), jnp.ones((3, 4)))) for seed in (0, 1))
    restored = round_trip(one, other)
    assert restored["params"]["Dense_0"]["kernel"].names == ("in", "out")
    assert set(flatten(host(one))) == {
        "params.Dense_0.kernel.value",
        "params.Dense_0.bias",
        "params.BatchNorm_0.scale",
        "params.BatchNorm_0.bias",
        "batch_stats.BatchNorm_0.mean",
        "batch_stats.BatchNorm_0.var",
    }


PARAMS = {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "log_std": jnp.full((1,), -0.5)}
TRANSFORMATIONS = {
    "sgd": optax.sgd(0.1),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10))),
    "masked": optax.masked(optax.adam(0.1), {"Dense_0": True, "log_std": False}),
    "partition": optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, {"Dense_0": "a", "log_std": "b"}),
    "hyperparameters": optax.inject_hyperparams(optax.adam)(learning_rate=0.1, b1=optax.linear_schedule(0.9, 0.5, 9)),
    "multi_steps": optax.MultiSteps(optax.adam(0.1), 2),
    "finite": optax.apply_if_finite(optax.adam(0.1), 3),
    "noise": optax.add_noise(0.1, 0.5, 3),
    "empty": optax.identity(),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_optax_states_come_back_as_they_were(name: str) -> None:
    """Named tuples, masks, partitions, injected hyperparameters and states without anything in them."""
    transformation: Any = TRANSFORMATIONS[name]
    grads = jax.tree.map(lambda leaf: leaf + 0.25, PARAMS)
    state = transformation.init(PARAMS)
    for _ in range(3):
        _, state = transformation.update(grads, state, PARAMS)
    restored = round_trip(state, transformation.init(PARAMS))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    expected = transformation.update(grads, state, PARAMS)
    assert_same(host(transformation.update(grads, restored, PARAMS)), host(expected))


class AgentState(TrainState):
    target_params: Any
    key: jax.Array


def test_train_states_with_fields_of_their_own_keep_functions_and_types() -> None:
    """apply_fn and tx are the template's; the added fields travel."""

    def make(seed: int) -> AgentState:
        params = nn.Dense(2).init(jax.random.key(seed), jnp.ones((1, 2)))["params"]
        return AgentState.create(
            apply_fn=nn.Dense(2).apply,
            params=params,
            tx=optax.adam(0.1),
            target_params=params,
            key=jax.random.key(seed),
        )

    saved, template = make(0).apply_gradients(grads=make(5).params), make(1)
    restored = round_trip(saved, template)
    assert restored.tx is template.tx
    assert restored.step == 1
    assert type(restored.opt_state[0]) is optax.ScaleByAdamState
    assert_same(host(template), host(make(1)))  # the template itself is as it was


class Policy(nnx.Module):
    def __init__(self, seed: int) -> None:
        rngs = nnx.Rngs(params=seed, dropout=seed + 1)
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.log_std = nnx.Param(jnp.full((2,), -0.5) + seed)
        self.offset = jnp.full((2,), float(seed))
        self.nested = nnx.Variable({"a": jnp.full((1,), seed), "b": (seed, None)})
        self.shared = self.layers[0]

    def __call__(self, x: Any) -> Any:
        return self.layers[1](self.dropout(self.norm(self.layers[0](x)))) + self.log_std[...] + self.offset


def test_nnx_modules_are_changed_in_place_with_every_variable() -> None:
    """Parameters, batch statistics, random streams, raw arrays and nested values; identities and metadata stay."""
    one, other = Policy(0), Policy(9)
    one(jnp.ones((5, 3)))
    variable, layer = other.log_std, other.layers[0]
    assert round_trip(one, other) is other
    assert (other.log_std is variable, other.shared is layer, other.layers[0] is layer) == (True, True, True)
    assert (one(jnp.ones((5, 3))) == other(jnp.ones((5, 3)))).all()
    assert {"layers.0.kernel", "norm.mean", "dropout.rngs.key.key_data", "offset", "nested.b.0"} <= set(
        flatten(host(one))
    )


def test_nnx_optimizers_metrics_and_variables_are_changed_in_place() -> None:
    """Each is an object that its owner keeps."""
    grads = nnx.state(Policy(3), nnx.Param)
    optimizers = [nnx.Optimizer(Policy(seed), optax.adamw(0.1), wrt=nnx.Param) for seed in (0, 1)]
    optimizers[0].update(Policy(0), grads)
    assert round_trip(*optimizers) is optimizers[1]
    assert optimizers[1].step[...] == 1
    metrics = [nnx.MultiMetric(loss=nnx.metrics.Average("loss"), accuracy=nnx.metrics.Accuracy()) for _ in range(2)]
    metrics[0].update(loss=jnp.array([1.0, 2.0]), logits=jnp.eye(2), labels=jnp.array([0, 0]))
    round_trip(*metrics)
    assert metrics[1].compute() == metrics[0].compute()
    assert round_trip(nnx.Param(jnp.ones(2)), variable := nnx.Param(jnp.zeros(2))) is variable
    assert (variable[...] == 1).all()


def test_a_dictionary_keeps_its_identity_and_gets_new_entries() -> None:
    """It is what its owner holds; arrays and containers in it are values."""
    module = {"params": {"w": jnp.zeros(2)}, "net": Policy(1)}
    params, net = module["params"], module["net"]
    assert backend.restore(module, host({"params": {"w": jnp.ones(2)}, "net": Policy(0)})) is module
    assert (module["params"]["w"] == 1).all()
    assert (params["w"] == 0).all()
    assert module["net"] is net
    assert (net.offset == 0).all()
    listed = [jnp.zeros(2)]
    assert backend.restore(listed, [np.ones(2, np.float32)]) is listed
    assert (listed[0] == 1).all()


def test_numpy_arrays_in_a_dictionary_are_overwritten() -> None:
    """Whoever registers a NumPy array goes on using that very array."""
    mean = np.zeros(3)
    backend.restore({"deep": [{"mean": mean}]}, {"deep": [{"mean": np.ones(3)}]})
    assert mean.tolist() == [1, 1, 1]
    assert backend.restore(mean, np.full(3, 2.0)) is mean
    assert mean.tolist() == [2, 2, 2]


def test_numpy_arrays_in_an_immutable_module_are_not_touched() -> None:
    """A module that is replaced leaves the old value to those who still hold it."""
    mean = np.zeros(3)
    restored = backend.restore((mean,), (np.ones(3),))
    assert (mean.tolist(), restored[0].tolist()) == ([0, 0, 0], [1, 1, 1])


def test_one_numpy_array_in_two_places_gets_both_values() -> None:
    """A target that still is the online array when a run starts has become another one in the file."""
    shared = np.zeros(2)
    restored = backend.restore({"online": shared, "target": shared}, {"online": np.ones(2), "target": np.full(2, 2.0)})
    assert (restored["online"].tolist(), restored["target"].tolist()) == ([1, 1], [2, 2])


def test_read_only_numpy_arrays_are_replaced() -> None:
    """A view of a JAX array cannot be written to."""
    module = {"view": np.asarray(jnp.zeros(2))}
    assert backend.restore(module, {"view": np.ones(2, np.float32)})["view"].tolist() == [1, 1]


class Scaler:
    """A preprocessor that looks after its own state."""

    def __init__(self, value: float) -> None:
        self.state: dict[str, Any] = {
            "mean": jnp.full((2,), value),
            "key": jax.random.key(int(value)),
            "moments": Moments(jnp.full((1,), value), 3),
            "history": [np.full(2, value)],
        }

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = dict(state)


def test_objects_with_state_dict_get_back_what_they_gave() -> None:
    """Arrays of JAX, random keys and named tuples, where the object has such itself."""
    restored = round_trip(Scaler(1.0), Scaler(0.0))
    assert isinstance(restored.state["mean"], jax.Array)
    assert isinstance(restored.state["moments"], Moments)
    assert isinstance(restored.state["history"][0], np.ndarray)
    assert restored.state["key"] == jax.random.key(1)


def test_objects_with_state_dict_decide_about_entries_they_do_not_have_yet() -> None:
    """What the file has beyond the object's own comes as it is."""
    scaler = Scaler(0.0)
    saved = host(Scaler(1.0)) | {"late": np.ones(3), "history": [np.ones(2), np.zeros(1)]}
    assert backend.restore(scaler, saved) is scaler
    assert (scaler.state["late"].tolist(), len(scaler.state["history"])) == ([1, 1, 1], 2)


def test_an_object_that_refuses_its_state_is_named() -> None:
    """What `load_state_dict` raises becomes a LoadMismatch that says whose it was, with the cause."""

    class Stubborn(Scaler):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise KeyError("variance")

    with pytest.raises(keepfast.LoadMismatch, match="Stubborn cannot load the file's state: 'variance'") as caught:
        backend.restore(Stubborn(0.0), host(Scaler(1.0)))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_leaf_that_no_file_can_hold_is_named() -> None:
    """A function belongs into a static field."""
    with pytest.raises(keepfast.UnsupportedModule, match=r"`params\.1\.act` is a builtins\.function"):
        backend.capture({"params": [jnp.ones(1), {"act": lambda x: x}]})
    with pytest.raises(keepfast.UnsupportedModule, match="`a` is a NumPy array of Python objects"):
        backend.capture({"a": np.array([object()])})


def test_a_donated_or_deleted_array_is_named() -> None:
    """Its value is gone, and the error says which it was and why."""
    state = {"params": {"w": jnp.ones(8)}, "step": jnp.zeros(())}
    jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)(state)
    with pytest.raises(keepfast.UsageError, match=r"the array `params\.w` was deleted, or donated"):
        backend.capture(state)


def test_capturing_while_tracing_is_refused() -> None:
    """There is no value yet."""
    with pytest.raises(keepfast.UsageError, match="`w` is being traced"):
        jax.jit(lambda w: backend.capture({"w": w})["w"])(jnp.ones(2))


def ones_that_jax_takes_over(count: int) -> Any:
    """Return an array that begins where those of JAX do, at a multiple of 64 bytes."""
    room = np.zeros(4 * count + 64, np.uint8)
    begin = -room.ctypes.data % 64
    made = room[begin : begin + 4 * count].view(np.float32)
    made[:] = 1
    return made


def test_restored_arrays_keep_nothing_of_the_saved_ones() -> None:
    """JAX on the CPU would take over a NumPy array's memory; what is loaded is a copy."""
    saved = {key: ones_that_jax_takes_over(1 << 16) for key in ("a", "b")}
    committed = jax.device_put(jnp.zeros(1 << 16), jax.devices()[0])
    restored = backend.restore({"a": jnp.zeros(1 << 16), "b": committed}, saved)
    jax.block_until_ready(restored)
    saved["a"][:], saved["b"][:] = 5, 5
    assert (np.asarray(restored["a"]) == 1).all()
    assert (np.asarray(restored["b"]) == 1).all()
    assert (restored["a"].committed, restored["b"].committed) == (False, True)
