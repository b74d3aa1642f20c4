"""PPO of TorchRL on CartPole: ``python FILE [FRAMES]``."""

from __future__ import annotations

import sys

import gymnasium
import torch
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import keepfast

FRAMES, BATCH = int([*sys.argv, "2048"][1]), 128

torch.manual_seed(1)
torch.set_num_threads(1)
env = gymnasium.make("CartPole-v1")
network = TensorDictModule(MLP(4, 2, num_cells=[64]), in_keys=["observation"], out_keys=["logits"])
seen = ValueOperator(MLP(4, 1, num_cells=[64]), in_keys=["observation"])

experiment = keepfast.Experiment({"experiment_name": "torchrl", "checkpoint_interval": 256}, timesteps=FRAMES)
wrapped = GymWrapper(keepfast.adapters.watch(env, experiment))
wrapped.set_seed(1)
actor = ProbabilisticActor(
    network, spec=wrapped.action_spec, in_keys=["logits"], distribution_class=OneHotCategorical, return_log_prob=True
)
loss, advantage = ClipPPOLoss(actor, seen), GAE(gamma=0.99, lmbda=0.95, value_network=seen)
optimizer = torch.optim.Adam(loss.parameters(), 3e-4)
experiment.register(policy=actor, value=seen, optimizer=optimizer)

start = experiment.resume()
for number, batch in enumerate(Collector(wrapped, actor, frames_per_batch=BATCH, total_frames=FRAMES - start)):
    for _ in range(4):
        advantage(batch)
        losses = {name: each for name, each in loss(batch.reshape(-1)).items() if name.startswith("loss_")}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    for name, each in losses.items():
        experiment.track_data(f"train/{name}", each)
    experiment.step(start + (number + 1) * BATCH - 1)
experiment.close()
