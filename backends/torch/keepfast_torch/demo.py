"""PPO in one file: what ``keepfast demo --backend torch`` runs, and an example to copy.

Of Keepfast it uses what any agent can: `keepfast.Agent` to keep metrics and checkpoints, `keepfast_torch.RandomMemory`
for the rollouts. The demo of the JAX backend has the same names in the same order. The algorithm is that of Schulman et
al., "Proximal Policy Optimization Algorithms" (2017), with generalized advantage estimation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, final

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import flatdim
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

import keepfast
from keepfast_torch import RandomMemory

NUM_ENVS = 64
EPISODES = 10
"""How many episodes an evaluation takes."""

FILMED, FRAME_EVERY = 250, 5
"""How many timesteps of an episode are filmed, and how many are between two frames."""

PPO_DEFAULTS: dict[str, Any] = {
    "rollouts": 50,  # timesteps between updates
    "learning_epochs": 4,  # passes over a rollout in an update
    "mini_batches": 4,  # gradient steps in a pass
    "discount_factor": 0.99,
    "lambda": 0.95,  # of generalized advantage estimation
    "learning_rate": 1e-3,  # at first
    "final_learning_rate": 2e-4,  # at the end of the training, to which it falls in a line
    "ratio_clip": 0.2,
    "grad_norm_clip": 0.5,
    "value_loss_scale": 0.5,
    "entropy_loss_scale": 0.01,
}


def network(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Return a network with two hidden layers; a small gain makes its first outputs nearly equal."""
    layers = [nn.Linear(inputs, 64), nn.Linear(64, 64), nn.Linear(64, outputs)]
    for layer, scale in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


@final
class RunningStandardScaler(nn.Module):
    """Scales states by the mean and the variance of all states seen so far; being buffers, they are checkpointed."""

    mean: torch.Tensor
    variance: torch.Tensor
    seen: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("seen", torch.ones(()))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return scaled states of the same shape."""
        return ((states - self.mean) / (self.variance + 1e-8).sqrt()).clamp(-10, 10)

    def update(self, states: torch.Tensor) -> None:
        """Take in states of shape (n, size); mean and variance are merged as by Chan et al. (1979)."""
        new, total = len(states), self.seen + len(states)
        delta = states.mean(0) - self.mean
        squares = self.variance * self.seen + states.var(0, correction=0) * new
        self.variance.copy_((squares + delta**2 * self.seen * new / total) / total)
        self.mean += delta * new / total
        self.seen.copy_(total)


@final
class PPO(keepfast.Agent):
    """Proximal policy optimization for discrete actions.

    Args:
        models: ``"policy"``, which returns a logit for each action, and ``"value"``.
        memory: holds one rollout; None for an agent that does not learn.
        observation_space: of one environment: a Box of one dimension.
        action_space: of one environment: Discrete.
        device: where the models are.
        cfg: settings beside those of `PPO_DEFAULTS`, and the experiment's under ``"experiment"``.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        memory: RandomMemory | None = None,
        observation_space: Any = None,
        action_space: Any = None,
        device: Any = None,
        cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(models, memory, observation_space, action_space, device, cfg)
        self.settings = {**PPO_DEFAULTS, **self.cfg}
        self.policy, self.value = models["policy"], models["value"]
        self.state_preprocessor = RunningStandardScaler(flatdim(observation_space)).to(device)
        # Checkpoints hold what is listed here; the models are listed already, under their roles.
        self.checkpoint_modules["state_preprocessor"] = self.state_preprocessor

    def init(self, trainer_cfg: Mapping[str, Any] | None = None, env: object = None) -> None:
        """Prepare for a training of ``trainer_cfg["timesteps"]`` timesteps in an environment."""
        trainer_cfg = trainer_cfg or {}
        super().init(trainer_cfg, env)
        updates = trainer_cfg["timesteps"] // self.settings["rollouts"]
        steps = updates * self.settings["learning_epochs"] * self.settings["mini_batches"]
        self.parameters = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=self.settings["learning_rate"], eps=1e-5)
        least = self.settings["final_learning_rate"] / self.settings["learning_rate"]
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: max(1 - (1 - least) * step / max(steps, 1), least)
        )
        self.checkpoint_modules["optimizer"] = self.optimizer
        self.checkpoint_modules["scheduler"] = self.scheduler
        if self.memory is not None:
            self._prepare_memory(self.memory)

    def _prepare_memory(self, memory: RandomMemory) -> None:
        for name in ("states", "next_states"):
            memory.create_tensor(name, self.observation_space, torch.float32)
        memory.create_tensor("actions", 1, torch.int64)
        memory.create_tensor("rewards", 1, torch.float32)
        for name in ("terminated", "truncated", "valid"):  # valid: whether it is a transition, which the memory knows
            memory.create_tensor(name, 1, torch.bool)
        self.checkpoint_modules["memory"] = memory

    @torch.no_grad()
    def act(self, states: NDArray[Any], *, deterministic: bool = False) -> NDArray[np.int64]:
        """Return an action for each state: the likeliest, or one drawn from the policy.

        Args:
            states: of shape (num_envs, size).
            deterministic: whether to take the likeliest.

        Returns:
            Actions of shape (num_envs,).
        """
        logits = self.policy(self.state_preprocessor(torch.as_tensor(states, dtype=torch.float32, device=self.device)))
        actions = logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1).squeeze(-1)
        return actions.cpu().numpy()

    def record_transition(
        self,
        states: Any,
        actions: Any,
        rewards: Any,
        next_states: Any,
        terminated: Any,
        truncated: Any,
        infos: Any,
        timestep: int,
        timesteps: int | None,
        valid: Any = None,
        **_more: Any,
    ) -> None:
        """Track rewards and episodes, and remember the transition."""
        super().record_transition(
            states, actions, rewards, next_states, terminated, truncated, infos, timestep, timesteps, valid
        )
        self.memory.add_samples(
            states=states,
            actions=actions[:, None],
            rewards=rewards[:, None],
            next_states=next_states,
            terminated=terminated[:, None],
            truncated=truncated[:, None],
            valid=valid,
        )

    def post_interaction(self, timestep: int, timesteps: int | None) -> None:
        """Learn from a complete rollout; then metrics and checkpoints are written where they are due."""
        if (timestep + 1) % self.settings["rollouts"] == 0:
            self._update(timestep + 1)
        super().post_interaction(timestep, timesteps)

    def _update(self, completed: int) -> None:
        rollout = self._rollout()
        self.writer.add_histogram("Policy / Probability of actions", rollout["log_probabilities"].exp(), completed)
        for _ in range(self.settings["learning_epochs"]):
            for batch in self._mini_batches(rollout):
                self._learn(batch)
        self.track_data("Learning / Learning rate", self.scheduler.get_last_lr()[0])
        # Only now, so that the whole update sees states scaled as they were when the actions were taken.
        seen = [self.memory.get_tensor_by_name(name, keepdim=False) for name in ("states", "valid")]
        self.state_preprocessor.update(seen[0][seen[1].squeeze(-1)])

    @torch.no_grad()
    def _rollout(self) -> dict[str, torch.Tensor]:
        """Return what the update learns from, of shape (transitions, *size)."""
        stored = {name: self.memory.get_tensor_by_name(name) for name in self.memory.get_tensor_names()}
        valid = stored["valid"].squeeze(-1)
        states, actions = self.state_preprocessor(stored["states"]), stored["actions"]
        log_probabilities = self.policy(states).log_softmax(-1)
        values = self.value(states)
        advantages = self._advantages(stored, values)
        self.track_data("Policy / Standard deviation", standard_deviation(log_probabilities[valid]))
        rollout = {
            "states": states,
            "actions": actions,
            "log_probabilities": log_probabilities.gather(-1, actions),
            "returns": advantages + values,
            "advantages": (advantages - advantages[valid].mean()) / (advantages[valid].std() + 1e-8),
        }
        return {name: tensor[valid] for name, tensor in rollout.items()}

    def _advantages(self, stored: Mapping[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        """Return generalized advantage estimates; an episode that was only cut short goes on in its value."""
        discount = self.settings["discount_factor"]
        next_values = self.value(self.state_preprocessor(stored["next_states"])) * ~stored["terminated"]
        deltas = stored["rewards"] + discount * next_values - values
        decay = discount * self.settings["lambda"] * ~(stored["terminated"] | stored["truncated"])
        advantages, running = torch.empty_like(deltas), torch.zeros_like(deltas[0])
        for row in reversed(range(len(deltas))):
            advantages[row] = running = deltas[row] + decay[row] * running
        return advantages

    def _mini_batches(self, rollout: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        for indexes in torch.randperm(len(rollout["states"])).chunk(self.settings["mini_batches"]):
            yield {name: tensor[indexes] for name, tensor in rollout.items()}

    def _learn(self, batch: Mapping[str, torch.Tensor]) -> None:
        losses = self._losses(**batch)
        self.optimizer.zero_grad()
        torch.autograd.backward(list(losses.values()))
        nn.utils.clip_grad_norm_(self.parameters, self.settings["grad_norm_clip"])
        self.optimizer.step()
        self.scheduler.step()
        for tag, loss in losses.items():
            self.track_data(tag, loss)  # tensors, not numbers: they are fetched when metrics are written, all at once

    def _losses(
        self,
        states: torch.Tensor,
        actions: torch.Tensor,
        log_probabilities: torch.Tensor,
        returns: torch.Tensor,
        advantages: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        clip = self.settings["ratio_clip"]
        now = self.policy(states).log_softmax(-1)
        ratio = (now.gather(-1, actions) - log_probabilities).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
        entropy = -(now.exp() * now).sum(-1).mean()
        return {
            "Loss / Policy loss": -gain,
            "Loss / Value loss": self.settings["value_loss_scale"] * (self.value(states) - returns).square().mean(),
            "Loss / Entropy loss": -self.settings["entropy_loss_scale"] * entropy,
        }


def standard_deviation(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Return the mean standard deviation of one-hot actions, sqrt(p (1 - p)): 0 when the policy is certain."""
    probabilities = log_probabilities.exp()
    return (probabilities * (1 - probabilities)).sqrt().mean()


def make_envs(env: str, count: int) -> VectorEnv[Any, Any, Any]:
    """Return environments that reset, as is Gymnasium's default, in the step after the one that ends an episode."""
    return gymnasium.make_vec(env, count)


def train(agent: PPO, envs: VectorEnv[Any, Any, Any], settings: keepfast.DemoSettings) -> None:
    """Train an agent for the timesteps that the settings give, or for those that are left of them."""
    start = agent.resume("latest")
    states, _ = envs.reset(seed=settings.seed + start)
    for timestep in range(start, settings.timesteps):
        actions = agent.act(states)
        next_states, rewards, terminated, truncated, infos = envs.step(actions)
        agent.record_transition(
            states, actions, rewards, next_states, terminated, truncated, infos, timestep, settings.timesteps
        )
        agent.post_interaction(timestep, settings.timesteps)
        states = next_states
        settings.progress(timestep + 1, agent.experiment.best_score)
    if start < settings.timesteps and (video := film(agent, envs, settings)) is not None:
        agent.writer.add_video("Evaluation / Episode", video, settings.timesteps, fps=10)


def evaluate(agent: PPO, envs: VectorEnv[Any, Any, Any], seed: int) -> float:
    """Return the mean return of one episode in each environment, the agent taking its likeliest actions."""
    returns, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    states, _ = envs.reset(seed=seed)
    while running.any():
        states, rewards, terminated, truncated, _ = envs.step(agent.act(states, deterministic=True))
        returns[running] += rewards[running]
        running &= ~(terminated | truncated)
    return float(returns.mean())


def film(agent: PPO, envs: VectorEnv[Any, Any, Any], settings: keepfast.DemoSettings) -> NDArray[np.uint8] | None:
    """Return an episode as a video of shape (1, time, 3, height, width), or None where nothing here can render it."""
    if "rgb_array" not in envs.metadata.get("render_modes", ()):
        return None
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen
    try:
        env = gymnasium.make(settings.env, render_mode="rgb_array", max_episode_steps=FILMED)
        states, _ = env.reset(seed=settings.seed)
        frames: list[Any] = [env.render()]
    except (gymnasium.error.DependencyNotInstalled, ImportError):
        return None
    ended = False
    while not ended:
        states, _, terminated, truncated, _ = env.step(agent.act(states[None], deterministic=True)[0])
        ended = terminated or truncated
        frames.append(env.render())
    env.close()
    return np.stack(frames[::FRAME_EVERY])[None, :, ::4, ::4].transpose(0, 1, 4, 2, 3)


def make_agent(envs: VectorEnv[Any, Any, Any], settings: keepfast.DemoSettings) -> PPO:
    """Return an agent for some environments, untrained."""
    states, actions = envs.single_observation_space, envs.single_action_space
    size = flatdim(states)
    models = {"policy": network(size, flatdim(actions), 0.01), "value": network(size, 1, 1.0)}
    device = torch.device("cpu")  # networks this small are slower on an accelerator
    enough = min(max(NUM_ENVS * settings.timesteps // 25_000, 2), 12)
    experiment = {
        "directory": str(settings.directory),
        "experiment_name": settings.name,
        "best_min_episodes": enough,  # so that a few lucky ones are not taken for the best agent
    }
    cfg = {**PPO_DEFAULTS, "env": settings.env, "num_envs": NUM_ENVS, "seed": settings.seed, "experiment": experiment}
    return PPO(models, None, states, actions, device, cfg)


def run(settings: keepfast.DemoSettings) -> keepfast.DemoResult:
    """Train an agent, then load its best checkpoint into a fresh one and evaluate that."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)  # networks this small are slower on several
    envs = make_envs(settings.env, NUM_ENVS)
    agent = make_agent(envs, settings)
    memory_dir = agent.experiment_dir / "memory"
    agent.memory = RandomMemory(
        agent.settings["rollouts"], NUM_ENVS, agent.device, export=True, export_directory=memory_dir, export_keep=20
    )
    agent.init(trainer_cfg={"timesteps": settings.timesteps}, env=envs)
    interrupted = False
    try:
        train(agent, envs, settings)
    except KeyboardInterrupt:
        interrupted = True
        agent.write_checkpoint()
    finally:
        agent.close()
        envs.close()
    best, completed = agent.experiment.best_score, agent.experiment.completed
    score = None if best is None else evaluate_best(agent, settings)
    return keepfast.DemoResult(agent.experiment_dir, memory_dir, best, score, interrupted, completed)


def evaluate_best(agent: PPO, settings: keepfast.DemoSettings) -> float:
    """Return the score of the best checkpoint of an agent, loaded into a fresh one."""
    envs = make_envs(settings.env, EPISODES)
    fresh = make_agent(envs, settings)
    path = agent.experiment_dir / "checkpoints" / "best_agent.pt"
    fresh.load(path, modules=["policy", "state_preprocessor"])
    score = evaluate(fresh, envs, seed=settings.seed + NUM_ENVS)
    envs.close()
    return score
