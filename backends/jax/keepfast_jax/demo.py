"""PPO in one file: what ``keepfast demo --backend jax`` runs, and an example to copy.

Of Keepfast it uses what any agent can: `keepfast.Agent` to keep metrics and checkpoints, `keepfast_jax.Model` and
`keepfast_jax.RandomMemory` for networks and rollouts. The demo of the PyTorch backend has the same names in the same
order. The algorithm is that of Schulman et al., "Proximal Policy Optimization Algorithms" (2017), with generalized
advantage estimation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, final

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium.spaces import flatdim
from gymnasium.vector import VectorEnv
from jax import lax
from numpy.typing import NDArray

import keepfast
from keepfast_jax import Model, RandomMemory

NUM_ENVS = 64
EPISODES = 10
"""How many episodes an evaluation takes."""

FILMED, FRAME_EVERY = 250, 5
"""How many timesteps of an episode are filmed, and how many are between two frames."""

PPO_DEFAULTS: dict[str, Any] = {
    "seed": 0,  # of the agent's random key
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


def network(inputs: int, outputs: int, gain: float, key: jax.Array, device: jax.Device) -> Model:
    """Return a network with two hidden layers; a small gain makes its first outputs nearly equal."""
    scales, sizes = (2**0.5, 2**0.5, gain), (64, 64, outputs)
    layers = [nn.Dense(size, kernel_init=nn.initializers.orthogonal(s)) for size, s in zip(sizes, scales, strict=True)]
    module = nn.Sequential([layers[0], nn.tanh, layers[1], nn.tanh, layers[2]])
    return Model(module, jax.device_put(module.init(key, jnp.zeros((1, inputs))), device))


def output(model: Model, variables: Any, states: jax.Array) -> jax.Array:
    """Return what a model gives for states, with other variables than its own; it can be compiled."""
    return jnp.asarray(model.module.apply(variables, states))


@final
class RunningStandardScaler(NamedTuple):
    """Scales states by the mean and the variance of all states seen so far."""

    mean: jax.Array
    variance: jax.Array
    seen: jax.Array

    @classmethod
    def of(cls, size: int) -> RunningStandardScaler:
        """Return a scaler that has seen nothing."""
        return cls(jnp.zeros(size), jnp.ones(size), jnp.ones(()))

    def __call__(self, states: jax.Array) -> jax.Array:
        """Return scaled states of the same shape."""
        return ((states - self.mean) / jnp.sqrt(self.variance + 1e-8)).clip(-10, 10)

    def updated(self, states: jax.Array, valid: jax.Array) -> RunningStandardScaler:
        """Take in states of shape (n, size), those that are valid, by a mask of shape (n, 1).

        Mean and variance are merged as by Chan et al. (1979).
        """
        new, total = valid.sum(), self.seen + valid.sum()
        delta = states.mean(0, where=valid) - self.mean
        squares = self.variance * self.seen + states.var(0, where=valid) * new
        variance = (squares + delta**2 * self.seen * new / total) / total
        return RunningStandardScaler(self.mean + delta * new / total, variance, total)


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
        models: Mapping[str, Model],
        memory: RandomMemory | None = None,
        observation_space: Any = None,
        action_space: Any = None,
        device: Any = None,
        cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(models, memory, observation_space, action_space, device, cfg)
        self.settings = {**PPO_DEFAULTS, **self.cfg}
        self.policy, self.value = models["policy"], models["value"]
        # All on the device from the start, where updates return them: JAX would compile anew for what is elsewhere.
        self.state_preprocessor = jax.device_put(RunningStandardScaler.of(flatdim(observation_space)), device)
        self.key = jax.device_put(jax.random.key(self.settings["seed"]), device)
        # Checkpoints hold what is listed here; the models are listed already, under their roles. What is replaced as
        # training goes on, rather than changed, is listed as the attribute that holds it.
        self.checkpoint_modules["state_preprocessor"] = keepfast.attribute(self, "state_preprocessor")
        self.checkpoint_modules["key"] = keepfast.attribute(self, "key")
        self._compiled_choose = jax.jit(self._choose, static_argnames="deterministic")
        self._compiled_improve = jax.jit(self._improve)

    def init(self, trainer_cfg: Mapping[str, Any] | None = None, env: object = None) -> None:
        """Prepare for a training of ``trainer_cfg["timesteps"]`` timesteps in an environment."""
        trainer_cfg = trainer_cfg or {}
        super().init(trainer_cfg, env)
        updates = trainer_cfg["timesteps"] // self.settings["rollouts"]
        steps = updates * self.settings["learning_epochs"] * self.settings["mini_batches"]
        rates = self.settings["learning_rate"], self.settings["final_learning_rate"]
        schedule = optax.linear_schedule(*rates, max(steps, 1))
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(self.settings["grad_norm_clip"]),
            optax.inject_hyperparams(optax.adam)(schedule, eps=1e-5),
        )
        self.optimizer_state = jax.device_put(self.optimizer.init(self._variables), self.device)
        self.checkpoint_modules["optimizer"] = keepfast.attribute(self, "optimizer_state")
        if self.memory is not None:
            self._prepare_memory(self.memory)

    def _prepare_memory(self, memory: RandomMemory) -> None:
        for name in ("states", "next_states"):
            memory.create_tensor(name, self.observation_space, jnp.float32)
        memory.create_tensor("actions", 1, jnp.int32)
        memory.create_tensor("rewards", 1, jnp.float32)
        for name in ("terminated", "truncated", "valid"):  # valid: whether it is a transition, which the memory knows
            memory.create_tensor(name, 1, jnp.bool)
        self.checkpoint_modules["memory"] = memory

    @property
    def _variables(self) -> dict[str, Any]:
        return {"policy": self.policy.variables, "value": self.value.variables}

    def act(self, states: NDArray[Any], *, deterministic: bool = False) -> NDArray[np.int32]:
        """Return an action for each state: the likeliest, or one drawn from the policy.

        Args:
            states: of shape (num_envs, size).
            deterministic: whether to take the likeliest.

        Returns:
            Actions of shape (num_envs,).
        """
        self.key, actions = self._compiled_choose(
            self.policy.variables, self.state_preprocessor, states, self.key, deterministic=deterministic
        )
        return np.asarray(actions)

    def _choose(
        self, variables: Any, scaler: RunningStandardScaler, states: jax.Array, key: jax.Array, *, deterministic: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Return the next key and the actions."""
        logits = output(self.policy, variables, scaler(states))
        if deterministic:
            return key, logits.argmax(-1)
        key, drawn = jax.random.split(key)
        return key, jax.random.categorical(drawn, logits)

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
        stored = {name: self.memory.get_tensor_by_name(name) for name in self.memory.get_tensor_names()}
        self.key, variables, self.optimizer_state, self.state_preprocessor, metrics, chosen = self._compiled_improve(
            self.key, self._variables, self.optimizer_state, self.state_preprocessor, stored
        )
        self.policy.variables, self.value.variables = variables["policy"], variables["value"]
        shown = np.asarray(chosen)
        self.writer.add_histogram("Policy / Probability of actions", shown[~np.isnan(shown)], completed)
        for tag, value in metrics.items():
            # Arrays, not numbers: they are fetched when metrics are written, all at once.
            self.track_data(tag, value)

    def _improve(
        self, key: jax.Array, variables: Any, optimizer_state: Any, scaler: RunningStandardScaler, stored: Any
    ) -> tuple[jax.Array, Any, Any, RunningStandardScaler, dict[str, jax.Array], jax.Array]:
        """Return everything an update replaces, its metrics, and how likely the actions were, NaN where none was."""
        rollout, deviation = self._rollout(variables, scaler, stored)
        key, shuffle = jax.random.split(key)
        batches = self._mini_batches(rollout, shuffle)
        (variables, optimizer_state), metrics = lax.scan(self._learn, (variables, optimizer_state), batches)
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics["Policy / Standard deviation"] = deviation
        metrics["Learning / Learning rate"] = optimizer_state[1].hyperparams["learning_rate"]
        # Only now, so that the whole update sees states scaled as they were when the actions were taken.
        scaler = scaler.updated(stored["states"].reshape(-1, stored["states"].shape[-1]), rollout["valid"])
        chosen = jnp.where(rollout["valid"], jnp.exp(rollout["log_probabilities"]), jnp.nan)
        return key, variables, optimizer_state, scaler, metrics, chosen

    def _rollout(
        self, variables: Any, scaler: RunningStandardScaler, stored: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Return what the update learns from, of shape (rollouts * num_envs, *size), and the standard deviation."""
        states, actions, valid = scaler(stored["states"]), stored["actions"], stored["valid"]
        log_probabilities = nn.log_softmax(output(self.policy, variables["policy"], states))
        values = output(self.value, variables["value"], states)
        next_values = output(self.value, variables["value"], scaler(stored["next_states"]))
        advantages = self._advantages(stored, values, next_values)
        rollout = {
            "states": states,
            "actions": actions,
            "log_probabilities": jnp.take_along_axis(log_probabilities, actions, -1),
            "returns": advantages + values,
            "advantages": (advantages - advantages.mean(where=valid)) / (advantages.std(where=valid) + 1e-8),
            "valid": valid,
        }
        flat = {name: array.reshape(-1, array.shape[-1]) for name, array in rollout.items()}
        return flat, standard_deviation(log_probabilities, valid)

    def _advantages(self, stored: Mapping[str, jax.Array], values: jax.Array, next_values: jax.Array) -> jax.Array:
        """Return generalized advantage estimates; an episode that was only cut short goes on in its value."""
        discount = self.settings["discount_factor"]
        deltas = stored["rewards"] + discount * next_values * ~stored["terminated"] - values
        decay = discount * self.settings["lambda"] * ~(stored["terminated"] | stored["truncated"])

        def step(running: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            running = row[0] + row[1] * running
            return running, running

        return lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, decay), reverse=True)[1]

    def _mini_batches(self, rollout: Mapping[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """Return the batches of all epochs, of shape (epochs * mini_batches, samples, size)."""
        epochs, count, total = self.settings["learning_epochs"], self.settings["mini_batches"], len(rollout["states"])
        orders = jnp.argsort(jax.random.uniform(key, (epochs, total)))[:, : total // count * count]
        return {name: array[orders.reshape(epochs * count, -1)] for name, array in rollout.items()}

    def _learn(self, state: tuple[Any, Any], batch: Mapping[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
        variables, optimizer_state = state
        gradients, losses = jax.grad(self._losses, has_aux=True)(variables, **batch)
        updates, optimizer_state = self.optimizer.update(gradients, optimizer_state)
        return (optax.apply_updates(variables, updates), optimizer_state), losses

    def _losses(
        self,
        variables: Any,
        states: jax.Array,
        actions: jax.Array,
        log_probabilities: jax.Array,
        returns: jax.Array,
        advantages: jax.Array,
        valid: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        clip = self.settings["ratio_clip"]
        now = nn.log_softmax(output(self.policy, variables["policy"], states))
        values = output(self.value, variables["value"], states)
        ratio = jnp.exp(jnp.take_along_axis(now, actions, -1) - log_probabilities)
        gain = jnp.minimum(ratio * advantages, ratio.clip(1 - clip, 1 + clip) * advantages).mean(where=valid)
        entropy = -(jnp.exp(now) * now).sum(-1, keepdims=True).mean(where=valid)
        losses = {
            "Loss / Policy loss": -gain,
            "Loss / Value loss": self.settings["value_loss_scale"] * jnp.square(values - returns).mean(where=valid),
            "Loss / Entropy loss": -self.settings["entropy_loss_scale"] * entropy,
        }
        return sum(losses.values()), losses


def standard_deviation(log_probabilities: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the mean standard deviation of one-hot actions, sqrt(p (1 - p)): 0 when the policy is certain."""
    probabilities = jnp.exp(log_probabilities)
    return jnp.sqrt(probabilities * (1 - probabilities)).mean(where=valid)


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
    device = jax.devices("cpu")[0]  # networks this small are slower on an accelerator
    keys = jax.random.split(jax.random.key(settings.seed))
    models = {
        "policy": network(size, flatdim(actions), 0.01, keys[0], device),
        "value": network(size, 1, 1.0, keys[1], device),
    }
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
    path = agent.experiment_dir / "checkpoints" / "best_agent.safetensors"
    fresh.load(path, modules=["policy", "state_preprocessor"])
    score = evaluate(fresh, envs, seed=settings.seed + NUM_ENVS)
    envs.close()
    return score
