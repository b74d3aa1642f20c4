"""Steps of environments that give tensors."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from keepfast.interfaces.step_buffer import SingleSteps  # noqa: E402
from keepfast.tracking.tracker import Tracker  # noqa: E402
from keepfast_torch.step_buffer import TensorSteps, step_buffer  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
def test_tensors_are_kept_as_they_are(dtype: torch.dtype) -> None:
    """What their owner changes afterwards does not reach the buffer."""
    rewards, done = torch.ones(3, 1, dtype=dtype), torch.tensor([[False], [True], [False]])
    buffer = step_buffer((rewards, done, done), 2)
    assert isinstance(buffer, TensorSteps)
    buffer.add(rewards, done, torch.zeros_like(done))
    rewards.fill_(5)
    buffer.add(rewards, torch.zeros_like(done), torch.zeros_like(done))
    kept, ended = buffer.take()
    assert kept.astype(float).tolist() == [[1.0] * 3, [5.0] * 3]
    assert ended.tolist() == [[False, True, False], [False] * 3]


def test_steps_that_were_taken_are_gone_and_episodes_end_either_way() -> None:
    """What comes behind them begins anew; one that is truncated has ended as one that is terminated."""
    rewards, done = torch.ones(2, 1), torch.tensor([[False], [True]])
    buffer = step_buffer((rewards, done, done), 2)
    assert isinstance(buffer, TensorSteps)
    for terminated, truncated in ((done, ~done), (done & ~done, ~done), (done, done & ~done)):
        buffer.add(rewards, terminated, truncated)
        kept, ended = buffer.take()
        assert kept.tolist() == [[1.0, 1.0]]
        assert ended.tolist() == [(terminated | truncated).flatten().tolist()]


@pytest.mark.parametrize("inference", [True, False])
def test_rewards_that_require_gradients_leave_no_graph(inference: bool) -> None:
    """A policy's output as reward is kept by value, also when the buffer was made in inference mode."""
    tracker = Tracker()
    never = torch.zeros(2, dtype=torch.bool)
    with torch.inference_mode(inference):
        tracker.episodes.record(torch.ones(2), never, never)
    rewards = torch.ones(2, requires_grad=True) * 2
    tracker.episodes.record(rewards, never, never)
    tracker.episodes.record(rewards, ~never, never)
    assert tracker.statistics()["Reward / Total reward (mean)"] == 5.0
    rewards.sum().backward()


class Held:
    """Stands for the activations that a graph holds."""


class Doubled(torch.autograd.Function):
    """A step of a policy whose graph holds something."""

    @staticmethod
    def forward(ctx: Any, value: Any, held: Any) -> Any:
        ctx.held = held
        return value * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * 2, None


def test_what_a_rewards_graph_holds_is_let_go() -> None:
    """Also while its value waits in the buffer, so that a policy's activations are not kept for a whole interval."""
    held, never = Held(), torch.zeros(2, dtype=torch.bool)
    kept = weakref.ref(held)
    buffer = step_buffer((torch.ones(2), never, never), 2)
    assert isinstance(buffer, TensorSteps)
    buffer.add(Doubled.apply(torch.ones(2, requires_grad=True), held), never, never)
    del held
    gc.collect()
    assert kept() is None
    assert buffer.take()[0].tolist() == [[2.0, 2.0]]


def test_one_environment_on_the_host_is_kept_as_numbers() -> None:
    """That costs a fraction of what tensors cost."""
    step = (torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool))
    assert isinstance(step_buffer(step, 2), SingleSteps)


def test_mixed_steps_go_without_a_buffer_of_their_own() -> None:
    """Tensors beside numbers are held each on its own, and give the same statistics."""
    assert step_buffer((torch.ones(1), False, True), 2) is None
    tracker = Tracker()
    tracker.episodes.record(torch.tensor([3.0]), False, True)
    assert tracker.statistics()["Reward / Total reward (mean)"] == 3.0


@pytest.mark.parametrize(("num_envs", "steps"), [(1, 1024), (4096, 1024), (2**16, 256), (2**25, 1)])
def test_a_device_keeps_more_steps_than_the_host(num_envs: int, steps: int) -> None:
    """There each time that steps are taken is a transfer; up to 1024 steps, or 16 million rewards."""
    there = torch.empty(num_envs, 1, device="meta")
    done = torch.empty(num_envs, 1, dtype=torch.bool, device="meta")
    buffer = step_buffer((there, done, done), 16)
    assert buffer is not None
    assert buffer.capacity == steps
    here = torch.zeros(3, 1)
    near = step_buffer((here, here > 0, here > 0), 16)
    assert near is not None
    assert near.capacity == 16
