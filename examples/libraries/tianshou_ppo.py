"""PPO of Tianshou on CartPole: ``python FILE [EPOCHS]``."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import torch
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.policy import PPOPolicy
from tianshou.trainer import OnpolicyTrainer
from tianshou.utils.net.common import ActorCritic, Net
from tianshou.utils.net.discrete import Actor, Critic

import keepfast

EPOCHS = int([*sys.argv, "8"][1])

np.random.seed(1)  # noqa: NPY002  (what Tianshou draws from)
torch.manual_seed(1)
torch.set_num_threads(1)
envs = DummyVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 4)
envs.seed(1)
actor = Actor(Net(4, hidden_sizes=[64]), 2)
critic = Critic(Net(4, hidden_sizes=[64]))
optimizer = torch.optim.Adam(ActorCritic(actor, critic).parameters(), lr=3e-4)
how: Any = {"action_space": gymnasium.spaces.Discrete(2), "action_scaling": False, "deterministic_eval": True}
policy = PPOPolicy(actor, critic, optimizer, torch.distributions.Categorical, **how)
collector = Collector(policy, envs, VectorReplayBuffer(1024, 4))
lengths = {"step_per_epoch": 512, "step_per_collect": 256, "repeat_per_collect": 2, "batch_size": 64}
trainer = OnpolicyTrainer(
    policy, collector, None, EPOCHS, episode_per_test=0, verbose=False, show_progress=False, **lengths
)

experiment = keepfast.Experiment({"experiment_name": "tianshou", "checkpoint_interval": 2}, timesteps=EPOCHS)
running = keepfast.adapters.EnvironmentState((envs, collector.data))
iter(trainer)  # begins the training, before what it counts is restored
counts = keepfast.attributes(trainer, "epoch", "env_step", "gradient_step")
experiment.register(policy=policy, optimizer=optimizer, env=running, trainer=counts)
experiment.resume()
while trainer.epoch < EPOCHS:  # instead of trainer.run()
    epoch, statistics, _ = next(trainer)
    for tag, value in statistics.items():
        experiment.track_data(tag, value)
    experiment.step(epoch - 1)
experiment.close()
