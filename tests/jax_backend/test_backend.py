"""The JAX backend knows its own modules, and takes copies that nothing reaches afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx, struct  # noqa: E402
from flax.core import freeze  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

import keepfast  # noqa: E402
from keepfast.modules.registered import check_places, registered  # noqa: E402
from keepfast_jax import JaxBackend, Model  # noqa: E402

backend = JaxBackend()


def run(program: str, **environment: str) -> str:
    """Run a program in an interpreter of its own and return what it prints."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={"JAX_PLATFORMS": "cpu", "PATH": "", **environment},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@struct.dataclass
class Count:
    value: int


class Numbers(NamedTuple):
    value: float


class Scaler:
    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def train_state() -> TrainState:
    return TrainState.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=optax.sgd(0.1))


RECOGNIZED = {
    "array": lambda: jnp.ones(2),
    "key": lambda: jax.random.key(0),
    "linen variables": lambda: nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 2))),
    "FrozenDict": lambda: freeze({"w": jnp.ones(1)}),
    "TrainState": train_state,
    "optax state without arrays": lambda: optax.sgd(0.1).init({"w": jnp.ones(2)}),
    "struct dataclass without arrays": lambda: Count(1),
    "nnx module": lambda: nnx.Linear(2, 2, rngs=nnx.Rngs(0)),
    "nnx optimizer": lambda: nnx.Optimizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), optax.sgd(0.1), wrt=nnx.Param),
    "nnx rngs": lambda: nnx.Rngs(0),
    "nnx state": lambda: nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(0))),
    "Model": lambda: Model(nn.Dense(2), {"params": {}}),
    "nested containers": lambda: {"a": [1, (None, OrderedDict(b=jnp.ones(1)))]},
    "NumPy arrays": lambda: {"mean": np.zeros(2), "count": 1},
    "scaler of JAX arrays": lambda: Scaler(jnp.ones(2)),
}


@pytest.mark.parametrize("kind", RECOGNIZED)
def test_its_own_modules_are_recognized(kind: str) -> None:
    """So that nobody needs to name the backend."""
    assert backend.recognizes(RECOGNIZED[kind]())


@pytest.mark.parametrize(
    "module", [None, 1.0, "text", {}, [], {"lr": 0.1}, Numbers(0.1), Scaler(0.1), object(), lambda: None]
)
def test_what_could_be_of_any_framework_is_not_recognized(module: Any) -> None:
    """Numbers and text say nothing; the modules registered beside them do."""
    assert not backend.recognizes(module)


@pytest.mark.needs("torch")
def test_whatever_holds_a_tensor_of_torch_is_not_recognized() -> None:
    """Not even where the rest is of NumPy or JAX; torch's modules are not asked for their state."""
    import torch

    class Stubborn(torch.nn.Linear):  # type: ignore[misc, name-defined]
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("asked")

    linear = Stubborn(2, 2)
    tensor = torch.zeros(2)
    modules = [
        linear,
        torch.optim.Adam(linear.parameters()),
        tensor,
        torch.nn.Parameter(tensor),
        {"mean": np.zeros(2), "tensor": tensor},
        [jnp.ones(2), (tensor,)],
        Scaler(tensor),
    ]
    assert [backend.recognizes(module) for module in modules] == [False] * len(modules)


def test_immutable_modules_are_replaced_and_mutable_ones_are_not() -> None:
    """Only what is replaced must be registered by its attribute."""
    immutable = [jnp.ones(1), jax.random.key(0), np.float32(1), train_state(), freeze({"a": 1}), (1,), Count(1)]
    mutable = [{}, [], np.ones(1), nnx.Rngs(0), nnx.Param(jnp.ones(1)), Model(nn.Dense(1), {}), Scaler(1.0)]
    assert [backend.replaces(module) for module in immutable] == [True] * len(immutable)
    assert [backend.replaces(module) for module in mutable] == [False] * len(mutable)


def test_an_immutable_module_without_a_place_is_told_when_it_is_registered() -> None:
    """Its checkpoints would hold what it was at first; by its attribute, or within a list, it has a place."""
    agent = SimpleNamespace(state=train_state())
    check_places(registered({"policy": keepfast.attribute(agent, "state"), "states": [train_state()]}, None))
    for module in (agent.state, agent.state.opt_state, Numbers(1.0), jax.random.key(0), freeze({"w": jnp.ones(1)})):
        with pytest.raises(
            keepfast.UnsupportedModule, match=r"`policy` is a .*keepfast.attribute\(owner, \"policy\"\)"
        ):
            check_places(registered({"rng": nnx.Rngs(0), "policy": module}, backend))


def test_only_objects_that_restore_themselves_are_open() -> None:
    """Everything else is compared entry by entry when it is loaded."""
    assert backend.is_open(Scaler(1.0))
    assert not any(backend.is_open(RECOGNIZED[kind]()) for kind in RECOGNIZED if kind != "scaler of JAX arrays")


def test_a_host_copy_survives_donation_and_prevents_none_but_one() -> None:
    """The next step may be given the arrays at once; those after it consume what the one before made."""
    state = {"w": jnp.arange(1 << 20, dtype=jnp.float32) * 1, "half": jnp.ones(1 << 20, jnp.bfloat16) * 1}
    state |= {"small": jnp.arange(9.0) * 1, "deleted": jnp.arange(1 << 20) * 1}
    copied = backend.host_copy(backend.capture(state))
    state.pop("deleted").delete()
    passed = []
    for _ in range(30):
        passed.append(dict(state))
        state = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf - 7, tree), donate_argnums=0)(state)
    jax.block_until_ready(state)
    assert all(array.is_deleted() for arrays in passed[1:] for array in arrays.values())
    assert (copied["w"] == np.arange(1 << 20)).all()
    assert (copied["half"] == 1).all()
    assert (copied["small"] == np.arange(9)).all()
    assert (copied["deleted"] == np.arange(1 << 20)).all()


def test_a_large_array_is_not_copied() -> None:
    """It is immutable, so that what is written behind training takes neither time nor memory of it."""
    array = jnp.arange(1 << 20, dtype=jnp.float32) * 1
    copied = backend.host_copy(backend.capture({"w": array, "transposed": array.reshape(1 << 10, -1).T}))
    assert np.shares_memory(copied["w"], np.asarray(array))
    assert not copied["w"].flags.writeable
    assert copied["transposed"].flags.c_contiguous


@pytest.mark.parametrize("rows", [1, 4096])
def test_a_host_copy_is_no_memory_that_an_environment_writes_to(rows: int) -> None:
    """`jax.device_put` takes an aligned array of NumPy over as it is, and its owner goes on with it."""
    room = np.zeros(rows * 16 + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    observations = room[start : start + rows * 16].reshape(rows, 16)
    copied = backend.host_copy(backend.capture({"observations": jax.device_put(observations)}))
    observations[:] = 7
    assert not copied["observations"].any()


def test_a_view_is_the_memory_of_every_array() -> None:
    """For whoever is done with it before training goes on."""
    tree = {"jax": jnp.arange(6.0), "numpy": np.arange(6.0), "transposed": np.ones((2, 3)).T}
    viewed = backend.host_view(backend.capture(tree))
    assert np.shares_memory(viewed["jax"], np.asarray(tree["jax"]))
    assert np.shares_memory(viewed["numpy"], tree["numpy"])
    assert viewed["transposed"].flags.c_contiguous


def test_a_host_copy_is_of_numpy_in_c_order_and_shares_nothing() -> None:
    """Whatever was captured: arrays of JAX, transposed ones of NumPy, scalars of NumPy."""
    tree = {"jax": jnp.arange(6.0).reshape(2, 3).T, "numpy": np.arange(6.0).reshape(2, 3).T, "scalar": np.float32(2)}
    copied = backend.host_copy(backend.capture(tree))
    assert all(type(leaf) is np.ndarray and leaf.flags.c_contiguous for leaf in copied.values())
    assert not np.shares_memory(copied["jax"], np.asarray(tree["jax"]))
    tree["numpy"][:] = -1
    assert copied["numpy"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_held_array_keeps_its_value_without_a_transfer() -> None:
    """A JAX array is kept as it is, a NumPy array is copied."""
    array, buffer = jnp.ones(2, jnp.bfloat16), np.ones(2)
    held = [backend.hold(array), backend.hold(buffer), backend.hold(np.float64(3))]
    buffer[:] = 5
    assert held[0] is array
    fetched = backend.fetch(held)
    assert [type(value) for value in fetched] == [np.ndarray] * 3
    assert [value.tolist() for value in fetched] == [[1, 1], [1, 1], 3]
    assert not np.shares_memory(fetched[0], np.asarray(array))


def test_an_array_donated_after_it_was_held_is_reported() -> None:
    """Its value is gone; the error says what to do."""
    array = jnp.ones(8)
    held = backend.hold(array)
    jax.jit(lambda value: value + 1, donate_argnums=0)(array)
    with pytest.raises(keepfast.UsageError, match="donated to a compiled function, before it was written"):
        backend.fetch([held])


def test_jax_has_no_random_state_of_its_own() -> None:
    """Keys are modules like any other."""
    assert backend.random_state() == {}


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    """And nothing is restored."""
    module = {"w": jnp.zeros(1)}
    with pytest.raises(keepfast.InvalidValue, match=r"there is no device `cpu:99`; known: cpu:0"):
        backend.restore(module, {"w": np.ones(1, np.float32)}, "cpu:99")
    assert module["w"] == 0


SPREAD = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
    from keepfast_jax import JaxBackend

    backend = JaxBackend()
    spread = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    second = SingleDeviceSharding(jax.devices()[1])
    keys = jax.random.split(jax.random.key(1), 4)
    make = lambda value: {
        "spread": jax.device_put(jnp.arange(8.0) * value, spread),
        "second": jax.device_put(jnp.full((), value), second),
        "free": jnp.full((2,), value),
        "keys": jax.device_put(keys, spread),
    }
    saved = backend.host_copy(backend.capture(make(2.0)))
    assert saved["spread"].tolist() == [0, 2, 4, 6, 8, 10, 12, 14], saved
    restored = backend.restore(make(0.0), saved)
    assert restored["spread"].sharding == restored["keys"].sharding == spread
    assert restored["second"].sharding == second and not restored["free"].committed
    assert (restored["keys"] == keys).all()
    assert restored["spread"].tolist() == saved["spread"].tolist()
    for device, expected in [("cpu:2", jax.devices()[2]), (second, jax.devices()[1]), (jax.devices()[3],) * 2]:
        assert {leaf.device for leaf in backend.restore(make(0.0), saved, device).values()} == {expected}
    print("ok")
"""


def test_arrays_return_to_their_devices_or_go_where_they_are_told() -> None:
    """Shardings over several devices, a single device, none in particular, and a device that is named."""
    assert run(SPREAD, XLA_FLAGS="--xla_force_host_platform_device_count=4") == "ok"


@pytest.mark.runs_in("jax", "all")  # where they are not there, and where they are
def test_nothing_of_torch_or_tensorboard_is_imported() -> None:
    """The whole backend works where neither is installed."""
    program = """
        import sys
        import keepfast, keepfast_jax, jax.numpy as jnp, numpy as np
        for name in keepfast_jax.__all__:
            getattr(keepfast_jax, name)
        backend = keepfast_jax.JaxBackend()
        module = {"w": jnp.zeros(2), "scale": 0.5}
        backend.recognizes(module)
        backend.restore(module, backend.host_copy(backend.capture(module)))
        print(sorted({"torch", "tensorboard", "tensorboardX", "keepfast_torch"} & set(sys.modules)))
    """
    assert run(program) == "[]"


def test_the_package_lists_its_names_without_loading_jax() -> None:
    """Whoever only looks does not wait for a framework."""
    assert run("import sys, keepfast_jax; print(dir(keepfast_jax), 'jax' in sys.modules)") == (
        "['JaxBackend', 'Model', 'RandomMemory', 'Transitions', '__version__', 'scan'] False"
    )
    with pytest.raises(ImportError, match="nothing"):
        exec("from keepfast_jax import nothing")


def test_where_jax_is_not_installed_the_error_says_what_to_run() -> None:
    """The package itself is always there; its names need the framework."""
    program = """
        import sys
        sys.modules["jax"] = None  # as if it were not there
        import keepfast, keepfast_jax
        try:
            keepfast_jax.JaxBackend
        except keepfast.MissingDependency as error:
            print(error)
    """
    assert run(program) == (
        '`keepfast_jax.JaxBackend` needs `jax`, which is not installed; run: pip install "keepfast[jax]"'
    )
