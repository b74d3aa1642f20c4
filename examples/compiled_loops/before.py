"""PPO on CartPole, compiled as a whole, as PureJaxRL has it: ``python FILE [UPDATES] [SEEDS]``."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

UPDATES, SEEDS = (int(given or default) for given, default in zip([*sys.argv[1:], "", ""], (200, 1), strict=False))
ENVS, STEPS, EPOCHS, MINIBATCHES = 16, 128, 4, 4
DISCOUNT, LAMBDA, CLIP, ENTROPY, RATE = 0.99, 0.95, 0.2, 0.01, 2.5e-4


class Environment(NamedTuple):
    """CartPole's state, with the returns of the episode under way and of the last one that ended."""

    state: Any
    running: Any
    last: Any


class Sample(NamedTuple):
    """One step of all environments."""

    observation: Any
    action: Any
    reward: Any
    done: Any
    value: Any
    log_prob: Any


class Networks(nn.Module):
    """The logits of both actions, and the value."""

    @nn.compact
    def __call__(self, observation: Any) -> tuple[Any, Any]:
        """Return them for observations of shape (..., 4)."""
        policy, value = (nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(observation)))) for _ in range(2))
        return nn.Dense(2, kernel_init=nn.initializers.orthogonal(0.01))(policy), nn.Dense(1)(value)[..., 0]


def begin(key: Any) -> Environment:
    """Return an environment at the beginning of its first episode."""
    return Environment(jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05), jnp.float32(0), jnp.float32(0))


def act(key: Any, env: Environment, action: Any) -> tuple[Environment, Any, Any]:
    """Take a step; return the environment, which begins anew after the end of an episode, the reward and the end."""
    x, speed, angle, turning = env.state
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    pushed = (jnp.where(action == 1, 10.0, -10.0) + 0.05 * turning**2 * sin) / 1.1
    turn = (9.8 * sin - cos * pushed) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    push = pushed - 0.05 * turn * cos / 1.1
    state = jnp.array([x + 0.02 * speed, speed + 0.02 * push, angle + 0.02 * turning, turning + 0.02 * turn])
    running = env.running + 1.0
    done = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.2095) | (running >= 500)
    following = Environment(state, running, env.last)
    restarted = begin(key)._replace(last=running)
    return jax.tree.map(lambda one, other: jnp.where(done, one, other), restarted, following), jnp.float32(1), done


def play(carry: Any, _: None) -> tuple[Any, Sample]:
    """Take a step in all environments."""
    train_state, envs, key = carry
    key, choice, restart = jax.random.split(key, 3)
    logits, value = train_state.apply_fn(train_state.params, envs.state)
    action = jax.random.categorical(choice, logits)
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
    following, reward, done = jax.vmap(act)(jax.random.split(restart, ENVS), envs, action)
    return (train_state, following, key), Sample(envs.state, action, reward, done, value, log_prob)


def advantages_of(samples: Sample, last: Any) -> Any:
    """Return the generalized advantage estimates of samples, of shape (steps, num_envs)."""

    def back(carry: Any, sample: Sample) -> tuple[Any, Any]:
        advantage, following = carry
        going = DISCOUNT * (1 - sample.done)
        advantage = sample.reward + going * following - sample.value + going * LAMBDA * advantage
        return (advantage, sample.value), advantage

    return jax.lax.scan(back, (jnp.zeros(ENVS), last), samples, reverse=True)[1]


def loss_of(params: Any, apply_fn: Any, samples: Sample, advantages: Any) -> tuple[Any, Any]:
    """Return the loss of a minibatch, and that of policy and value and the entropy."""
    logits, value = apply_fn(params, samples.observation)
    log_probs = jax.nn.log_softmax(logits)
    ratio = jnp.exp(jnp.take_along_axis(log_probs, samples.action[:, None], 1)[:, 0] - samples.log_prob)
    scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    policy = -jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled).mean()
    value_loss = ((value - samples.value - advantages) ** 2).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return policy + 0.5 * value_loss - ENTROPY * entropy, (policy, value_loss, entropy)


def learn(carry: Any, key: Any) -> tuple[Any, Any]:
    """Take an epoch over the samples, a minibatch at a time."""
    train_state, samples, advantages = carry
    order = jax.random.permutation(key, ENVS * STEPS).reshape(MINIBATCHES, -1)

    def step(train_state: TrainState, rows: Any) -> tuple[TrainState, Any]:
        batch = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[rows], (samples, advantages))
        gradients, losses = jax.grad(loss_of, has_aux=True)(train_state.params, train_state.apply_fn, *batch)
        return train_state.apply_gradients(grads=gradients), losses

    train_state, losses = jax.lax.scan(step, train_state, order)
    return (train_state, samples, advantages), losses


def update(carry: Any, _: None) -> tuple[Any, dict[str, Any]]:
    """Play, and learn from it; return what is tracked beside."""
    (train_state, envs, key), samples = jax.lax.scan(play, carry, length=STEPS)
    advantages = advantages_of(samples, train_state.apply_fn(train_state.params, envs.state)[1])
    key, shuffle = jax.random.split(key)
    (train_state, *_), losses = jax.lax.scan(
        learn, (train_state, samples, advantages), jax.random.split(shuffle, EPOCHS)
    )
    names = "Loss / Policy loss", "Loss / Value loss", "Policy / Entropy"
    tracked = dict(zip(names, jax.tree.map(jnp.mean, losses), strict=True))
    return (train_state, envs, key), {"Episode / Last return": envs.last.mean(), **tracked}


def start(key: Any) -> tuple[TrainState, Environment, Any]:
    """Return the first carry."""
    key, initial, reset = jax.random.split(key, 3)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE, eps=1e-5))
    params = Networks().init(initial, jnp.zeros(4))
    train_state = TrainState.create(apply_fn=Networks().apply, params=params, tx=optimizer)
    return train_state, jax.vmap(begin)(jax.random.split(reset, ENVS)), key


def train(key: Any) -> Any:
    """Train from a random key to the end; return the last carry, and what was tracked."""
    return jax.lax.scan(update, start(key), length=UPDATES)


key = jax.random.key(0)
(_, envs, _), _ = jax.jit(train)(key) if SEEDS == 1 else jax.jit(jax.vmap(train))(jax.random.split(key, SEEDS))
print(f"return of the last episodes: {envs.last.mean():.0f}")  # noqa: T201
