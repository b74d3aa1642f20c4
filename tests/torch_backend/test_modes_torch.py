"""Whatever mode of PyTorch a public call is made in: it has its right value or says why not, and training goes on."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402
from tests.both_backends.modes import CALLS, GIVEN, Mode, World, outcome  # noqa: E402

nn, func = torch.nn, torch.func


class TorchWorld(World):
    def begin(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.1 * seed)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2)
        self.generator = torch.Generator().manual_seed(seed)
        self.mean, self.pool = torch.full((2,), float(seed)), deque([torch.full((2,), float(seed))])

    def train(self) -> None:
        inputs = torch.randn(5, 3, generator=self.generator)
        self.optimizer.zero_grad()
        self.net(inputs).square().mean().backward()
        self.optimizer.step()
        self.scheduler.step()
        self.mean.mul_(1.5)
        self.pool[0].add_(1)
        assert all(parameter.requires_grad and not parameter.is_inference() for parameter in self.net.parameters())

    def modules(self) -> dict[str, Any]:
        names = ("net", "optimizer", "scheduler", "generator", "mean", "pool")
        return {name: getattr(self, name) for name in names}

    def make_memory(self) -> Any:
        return keepfast_torch.RandomMemory(4, 2, device="cpu")

    def array(self, values: Any) -> Any:
        return torch.tensor(values, device="cpu")

    def seed_sampling(self) -> None:
        torch.manual_seed(5)


class Functions(TorchFunctionMode):  # type: ignore[misc]
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Dispatch(TorchDispatchMode):  # type: ignore[misc]
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def setting(set_to: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


def within(make: Callable[[], Any]) -> Mode:
    """Return the mode that a context manager switches on."""

    def mode(call: Callable[[Any], None]) -> None:
        with make():
            call(torch.ones(()))

    return mode


def beside(call: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Return a function that makes the call on the way."""

    def traced(value: Any) -> Any:
        call(value * 1.0)
        return value * 2

    return traced


class Beside(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, call: Callable[[Any], None]) -> None:
        super().__init__()
        self.call = call

    def forward(self, value: Any) -> Any:
        self.call(value)
        return value * 2


class Function(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, value: Any, call: Callable[[Any], None]) -> Any:
        call(value)
        return value * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def compiled(call: Callable[[Any], None]) -> None:
    torch._dynamo.reset()
    torch.compile(beside(call), backend="eager")(torch.ones(()))


def in_a_hook(call: Callable[[Any], None]) -> None:
    leaf = torch.ones((), requires_grad=True)

    def hook(gradient: Any) -> None:
        call(gradient)

    leaf.register_hook(hook)
    (leaf * 1).backward()


ONE, MANY = (torch.ones(()), torch.ones(3))
CONVERSION = torch.__future__

MODES: dict[str, Mode] = {
    "no gradients": within(torch.no_grad),
    "gradients": within(torch.enable_grad),
    "gradients set to off": within(lambda: torch.set_grad_enabled(False)),
    "inference": within(torch.inference_mode),
    "double by default": within(lambda: setting(torch.set_default_dtype, torch.float64, torch.float32)),
    "bfloat16 by default": within(lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32)),
    "a device for what is made": within(lambda: torch.device("cpu")),
    "meta for what is made": within(lambda: torch.device("meta")),
    "meta by default": within(lambda: setting(torch.set_default_device, "meta", None)),
    "autocast": within(lambda: torch.autocast("cpu", torch.bfloat16)),
    "deterministic": within(lambda: setting(torch.use_deterministic_algorithms, True, False)),
    "anomalies": within(torch.autograd.detect_anomaly),
    "hooks of saved tensors": within(lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)),
    "saved on the CPU": within(torch.autograd.graph.save_on_cpu),
    "no hooks of saved tensors": within(lambda: torch.autograd.graph.disable_saved_tensors_hooks("none")),
    "saved tensors may change": within(torch.autograd.graph.allow_mutation_on_saved_tensors),
    "a mode of functions": within(Functions),
    "a mode of dispatch": within(Dispatch),
    "fake tensors": within(FakeTensorMode),
    "fake tensors beside real ones": within(lambda: FakeTensorMode(allow_non_fake_inputs=True)),
    "the profiler": within(torch.profiler.profile),
    "parameters are made anew": within(
        lambda: setting(CONVERSION.set_overwrite_module_params_on_conversion, True, False)
    ),
    "parameters are swapped": within(lambda: setting(CONVERSION.set_swap_module_params_on_conversion, True, False)),
    "no functions of subclasses": within(torch._C.DisableTorchFunctionSubclass),
    "dual numbers": within(torch.autograd.forward_ad.dual_level),
    "parametrizations cached": within(nn.utils.parametrize.cached),
    "random numbers forked": within(torch.random.fork_rng),
    "NumPy raises": within(lambda: np.errstate(all="raise")),
    "compile": compiled,
    "grad": lambda call: func.grad(beside(call))(ONE),
    "vmap": lambda call: func.vmap(beside(call))(MANY[:1]),
    "jvp": lambda call: func.jvp(beside(call), (ONE,), (ONE,)),
    "jacrev": lambda call: func.jacrev(beside(call))(ONE),
    "functionalize": lambda call: func.functionalize(beside(call))(ONE),
    "functional_call": lambda call: func.functional_call(Beside(call), {}, ONE),
    "make_fx": lambda call: make_fx(beside(call))(ONE),
    "make_fx of fake tensors": lambda call: make_fx(beside(call), tracing_mode="fake")(ONE),
    "torch.fx": lambda call: torch.fx.symbolic_trace(Beside(call)),
    "torch.jit.trace": lambda call: torch.jit.trace(Beside(call), ONE, check_trace=False),
    "torch.export": lambda call: torch.export.export(Beside(call), (MANY[:1],), strict=False),
    "a hook of gradients": in_a_hook,
    "a function of autograd's": lambda call: Function.apply(torch.ones((), requires_grad=True), call),
    "recomputed later": lambda call: torch.utils.checkpoint.checkpoint(beside(call), ONE, use_reentrant=False),
}
"""What PyTorch's documentation has of modes that a function may be called in."""

WITHOUT_VALUES = {
    "meta for what is made": "it is on the device `meta`, so it has no value",
    "meta by default": "it is on the device `meta`, so it has no value",
    "fake tensors": "it is being traced .by FakeTensorMode, torch.export or make_fx. and has no value; return it",
    "fake tensors beside real ones": "it is being traced",
    "vmap": "it is one of a batch in torch.vmap and has as many values; return it from the mapped function",
    "make_fx of fake tensors": "it is being traced",
    "torch.fx": "it is being traced",
    "torch.export": "it is being traced",
}
"""The modes in which what is made has no value, or many, and what is said then."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Return what comes of every call without any mode; one thread is enough for networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        call: outcome(TorchWorld(1, tmp_path_factory.mktemp("plain")), lambda made: made(torch.ones(())), call)
        for call in CALLS
    }
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mode", MODES)
def test_a_call_within_a_mode(mode: str, call: str, expected: dict[str, Any], tmp_path: Path) -> None:
    """It does what it does without, to the last bit of what is trained on; what has no value is refused by name."""
    found = outcome(TorchWorld(1, tmp_path), MODES[mode], call)
    if call in GIVEN and mode in WITHOUT_VALUES:
        assert isinstance(found, keepfast.InvalidValue)
        assert re.search(f"`a`.*{WITHOUT_VALUES[mode]}", str(found))
    else:
        assert found == expected[call]


def test_a_compiled_function_that_may_have_no_breaks_says_why_it_has_one(tmp_path: Path) -> None:
    """With fullgraph=True the compiler's own error has our reason."""
    agent = TorchWorld(1, tmp_path).started()
    torch._dynamo.reset()
    function = torch.compile(beside(lambda value: agent.track_data("a", value)), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="keeps what a run produces and is no part of a graph"):
        function(torch.ones(()))
    agent.close()


def test_what_was_made_in_inference_mode_is_loaded_there_and_outside(tmp_path: Path) -> None:
    """Its parameters can be overwritten in that mode alone, which is switched on for them."""
    path = keepfast.save(source := nn.Linear(2, 2), tmp_path / "net.pt")
    with torch.inference_mode():
        net = nn.Linear(2, 2)
        keepfast.load(net, path)
    keepfast.load(net, path)
    assert net.weight.is_inference()
    assert torch.equal(net.weight, source.weight)


def test_a_memory_made_in_a_mode_has_the_default_dtype_of_that_moment() -> None:
    """As any tensor that is made there."""
    with setting(torch.set_default_dtype, torch.float64, torch.float32):
        memory = keepfast_torch.RandomMemory(2, device="cpu")
        memory.create_tensor("x", 1)
    assert memory.get_tensor_by_name("x").dtype == torch.float64
