"""Trainings on PyTorch and on JAX, with a memory; each class is imported where its framework is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, final

import numpy as np

import keepfast
from tests.powerloss.training import ROWS, Training


@final
class TorchTraining(Training):
    """A network whose numbers are that of the completed timesteps, its optimizer, and a memory."""

    def make(self) -> dict[str, Any]:
        import torch

        import keepfast_torch

        self.net = torch.nn.Linear(30, 20)
        self.optimizer = torch.optim.SGD(self.net.parameters(), momentum=0.9)
        self.memory = keepfast_torch.RandomMemory(ROWS, 1)
        self.memory.create_tensor("number", 1)
        return {"net": self.net, "optimizer": self.optimizer, "memory": self.memory}

    def fill(self, number: int) -> None:
        for parameter in self.net.parameters():
            parameter.data.fill_(float(number))
            self.optimizer.state[parameter]["momentum_buffer"] = parameter.detach().clone()

    def numbers(self) -> list[Any]:
        state = [held["momentum_buffer"] for held in self.optimizer.state.values() if held]
        return [parameter.detach().numpy() for parameter in self.net.parameters()] + state if state else [np.zeros(1)]

    def sample(self, number: int) -> Any:
        import torch

        return torch.full((1, 1), float(number))


@final
class JaxTraining(Training):
    """A pytree whose numbers are that of the completed timesteps, and a memory."""

    def make(self) -> dict[str, Any]:
        import jax.numpy as jnp

        import keepfast_jax

        self.owner = SimpleNamespace(params={"kernel": jnp.zeros((30, 20)), "bias": jnp.zeros(20)})
        self.memory = keepfast_jax.RandomMemory(ROWS, 1)
        self.memory.create_tensor("number", 1)
        return {"params": keepfast.attribute(self.owner, "params"), "memory": self.memory}

    def fill(self, number: int) -> None:
        import jax.numpy as jnp

        held = self.owner.params
        self.owner.params = {name: jnp.full(array.shape, float(number)) for name, array in held.items()}

    def numbers(self) -> list[Any]:
        return list(self.owner.params.values())

    def sample(self, number: int) -> Any:
        import jax.numpy as jnp

        return jnp.full((1, 1), float(number))


TRAININGS = {"torch": TorchTraining, "jax": JaxTraining}
