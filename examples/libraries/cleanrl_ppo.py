"""PPO on CartPole in one file, as CleanRL writes its agents: ``python FILE [TOTAL_TIMESTEPS]``."""

from __future__ import annotations

import random
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn, optim

import keepfast

TOTAL, NUM_ENVS, NUM_STEPS, EPOCHS, MINIBATCH = int([*sys.argv, "4096"][1]), 4, 32, 4, 32
GAMMA, LAMBDA, CLIP, ENTROPY, RATE = 0.99, 0.95, 0.2, 0.01, 2.5e-4
BATCH = NUM_ENVS * NUM_STEPS


def layer(inputs: int, outputs: int, std: float = 2.0**0.5) -> nn.Linear:
    """Return a layer with weights that are orthogonal."""
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, std)
    nn.init.constant_(made.bias, 0.0)
    return made


class Agent(nn.Module):
    """Critic and actor."""

    def __init__(self) -> None:
        """Make both, of two layers each."""
        super().__init__()
        self.critic = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0))
        self.actor = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 2, 0.01))

    def get_action_and_value(self, x: Any, action: Any = None) -> Any:
        """Return an action, its log probability, the entropy, and the value."""
        of = torch.distributions.Categorical(logits=self.actor(x))
        action = of.sample() if action is None else action
        return action, of.log_prob(action), of.entropy(), self.critic(x).flatten()


random.seed(1)
np.random.seed(1)  # noqa: NPY002  (as CleanRL does)
torch.manual_seed(1)
torch.set_num_threads(1)
envs = gym.make_vec(
    "CartPole-v1", NUM_ENVS, "sync", vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
)
agent = Agent()
optimizer = optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
next_done = torch.zeros(NUM_ENVS)

experiment = keepfast.Experiment(
    {"experiment_name": "cleanrl", "checkpoint_interval": 512}, name="PPO", timesteps=TOTAL
)
experiment.register(agent=agent, optimizer=optimizer, next_done=next_done)
envs = keepfast.adapters.watch(envs, experiment)  # instead of RecordEpisodeStatistics

obs, actions = torch.zeros(NUM_STEPS, NUM_ENVS, 4), torch.zeros(NUM_STEPS, NUM_ENVS)
logprobs, rewards, dones, values = torch.zeros(4, NUM_STEPS, NUM_ENVS)
start = experiment.resume()
next_obs = torch.as_tensor(envs.reset(seed=1)[0])
for iteration in range(start // BATCH, TOTAL // BATCH):
    optimizer.param_groups[0]["lr"] = RATE * (1 - iteration * BATCH / TOTAL)
    for step in range(NUM_STEPS):
        obs[step], dones[step] = next_obs, next_done
        with torch.no_grad():
            actions[step], logprobs[step], _, values[step] = agent.get_action_and_value(next_obs)
        found, reward, terminations, truncations, _ = envs.step(actions[step].long().numpy())
        rewards[step], next_obs = torch.as_tensor(reward), torch.as_tensor(found)
        next_done.copy_(torch.as_tensor(terminations | truncations))

    with torch.no_grad():
        advantages, last, following = torch.zeros_like(rewards), torch.zeros(NUM_ENVS), agent.critic(next_obs).flatten()
        going = 1 - next_done
        for t in reversed(range(NUM_STEPS)):
            last = rewards[t] + GAMMA * following * going - values[t] + GAMMA * LAMBDA * going * last
            advantages[t], following, going = last, values[t], 1 - dones[t]
        returns = advantages + values

    flat = [each.reshape(BATCH, *each.shape[2:]) for each in (obs, actions, logprobs, advantages, returns)]
    for _ in range(EPOCHS):
        order = np.random.permutation(BATCH)  # noqa: NPY002
        for begin in range(0, BATCH, MINIBATCH):
            b_obs, b_actions, b_logprobs, b_advantages, b_returns = (
                each[order[begin : begin + MINIBATCH]] for each in flat
            )
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs, b_actions)
            ratio = (newlogprob - b_logprobs).exp()
            scaled = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
            policy_loss = -torch.min(scaled * ratio, scaled * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            value_loss = 0.5 * (newvalue - b_returns).square().mean()
            optimizer.zero_grad()
            (policy_loss - ENTROPY * entropy.mean() + 0.5 * value_loss).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()

    experiment.track_data("losses/policy_loss", policy_loss)  # instead of writer.add_scalar
    experiment.track_data("losses/value_loss", value_loss)
    experiment.step((iteration + 1) * BATCH - 1)
experiment.close()
