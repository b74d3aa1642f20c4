"""Files with the layouts of other libraries, made of random arrays without those libraries."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZES = ((4, 16), (16, 16), (16, 2))
"""Inputs and outputs of the dense layers of every actor here; a critic's last one has one output."""

RANDOM = np.random.default_rng(0)


def weights(prefixes: tuple[str, ...], last: int = 2) -> dict[str, Any]:
    """Return the arrays of three dense layers of PyTorch, each below a prefix."""
    sizes = [*SIZES[:2], (16, last)]
    return {
        f"{prefix}.{name}": RANDOM.normal(size=shape).astype("float32") / 4
        for prefix, (ins, outs) in zip(prefixes, sizes, strict=True)
        for name, shape in (("weight", (outs, ins)), ("bias", (outs,)))
    }


def normal(*shape: int, dtype: str = "float32") -> Any:
    return RANDOM.normal(size=shape).astype(dtype)


def stable_baselines3(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write the archive of a PPO, its ``data`` not to be read; return the policy's state dict."""
    actor = weights(("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net"))
    critic = weights(("mlp_extractor.value_net.0", "mlp_extractor.value_net.2", "value_net"), 1)
    policy = OrderedDict({"log_std": normal(2), **actor, **critic})
    serialized = {"policy_class": {":type:": "<class 'type'>", ":serialized:": "gAVjb3MKc3lzdGVtCg=="}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(serialized))
        for name, content in (("pytorch_variables.pth", {}), ("policy.pth", policy), ("policy.optimizer.pth", {})):
            inner = path.with_name(name)
            save(content, inner)
            archive.write(inner, name)
            inner.unlink()
        archive.writestr("_stable_baselines3_version", "2.9.2")
    return dict(policy)


def vec_normalize(path: Path) -> dict[str, Any]:
    """Write the pickle of a VecNormalize of which no class can be imported; return its statistics."""
    statistics = {"mean": normal(4, dtype="f8"), "var": normal(4, dtype="f8") ** 2, "count": 100.5}
    made = VecNormalize({"obs_rms": VecNormalize(statistics), "epsilon": 1e-8, "clip_obs": 10.0})
    content = pickle.dumps(made)
    assert b"tests.both_backends.foreign" in content
    path.write_bytes(content.replace(b"tests.both_backends.foreign", b"stable_baselines3_not_here_"))
    return statistics


class VecNormalize:
    """An object with attributes."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.__dict__.update(attributes)


def rl_games(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write a checkpoint with one trunk for actor and critic; return the network's state dict."""
    trunk = weights(("a2c_network.actor_mlp.0", "a2c_network.actor_mlp.2", "a2c_network.mu"))
    model = OrderedDict(
        {
            "value_mean_std.running_mean": normal(1, dtype="f8"),
            "value_mean_std.running_var": normal(1, dtype="f8") ** 2,
            "value_mean_std.count": np.array(7.0),
            "running_mean_std.running_mean": normal(4, dtype="f8"),
            "running_mean_std.running_var": normal(4, dtype="f8") ** 2,
            "running_mean_std.count": np.array(9.0),
            "a2c_network.sigma": normal(2),
            **trunk,
            "a2c_network.value.weight": normal(1, 16),
            "a2c_network.value.bias": normal(1),
        }
    )
    save({"model": model, "epoch": 3, "frame": 10, "last_mean_rewards": np.float32(1.5), "env_state": None}, path)
    return dict(model)


def rsl_rl(save: Callable[[Any, Any], None], path: Path, version: int = 5) -> dict[str, Any]:
    """Write a checkpoint as a version does; return actor and critic with the names of version 5."""
    actor = {
        "obs_normalizer._mean": normal(1, 4),
        "obs_normalizer._var": normal(1, 4) ** 2,
        "obs_normalizer.count": np.array(100),
        "distribution.std_param": np.abs(normal(2)) + 0.1,
        **weights(("mlp.0", "mlp.2", "mlp.4")),
    }
    actor["obs_normalizer._std"] = np.sqrt(actor["obs_normalizer._var"])
    critic = weights(("mlp.0", "mlp.2", "mlp.4"), 1)
    rest = {"optimizer_state_dict": {}, "iter": 3, "infos": None}
    if version >= 4:
        save({"actor_state_dict": actor, "critic_state_dict": critic, **rest}, path)
    else:
        old = {"std": actor["distribution.std_param"]}
        old |= {f"actor_{name}": array for name, array in actor.items() if name.startswith("obs_normalizer")}
        old |= {name.replace("mlp", "actor"): array for name, array in actor.items() if name.startswith("mlp")}
        old |= {name.replace("mlp", "critic"): array for name, array in critic.items()}
        save({"model_state_dict": old, **rest}, path)
    return {"actor": actor, "critic": critic}


def clean_rl(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write the state dict of an agent in one file, critic first, and return it."""
    state = {
        **weights(("critic.0", "critic.2", "critic.4"), 1),
        "actor_logstd": normal(1, 2),
        **weights(("actor_mean.0", "actor_mean.2", "actor_mean.4")),
    }
    save(state, path)
    return state


def skrl(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write a whole agent; return its modules."""
    modules = {
        "policy": {"log_std_parameter": normal(2), **weights(("net.0", "net.2", "policy_layer"))},
        "value": weights(("net.0", "net.2", "value_layer"), 1),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "state_preprocessor": {
            "running_mean": normal(4, dtype="f8"),
            "running_variance": normal(4, dtype="f8") ** 2,
            "current_count": np.array(11.0),
        },
    }
    save(modules, path)
    return modules


def tianshou(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write the state dict of a policy, in which every network stands twice; return it."""
    state = {
        "actor.sigma_param": normal(2, 1),
        **weights(("actor.preprocess.model.model.0", "actor.preprocess.model.model.2", "actor.mu.model.0")),
        **weights(("critic.preprocess.model.model.0", "critic.preprocess.model.model.2", "critic.last.model.0"), 1),
    }
    save(OrderedDict({**state, **{f"_actor_critic.{name}": array for name, array in state.items()}}), path)
    return state


def torchrl(save: Callable[[Any, Any], None], path: Path) -> dict[str, Any]:
    """Write the state dict of a loss; return it."""
    actor = tuple(f"actor_network_params.module.0.module.0.{number}" for number in (0, 2, 4))
    critic = tuple(f"critic_network_params.module.{number}" for number in (0, 2, 4))
    state = {"clip_epsilon": np.array(0.2), **weights(actor), **weights(critic, 1)}
    save(state, path)
    return state


def flax_mlp(last: int = 2, stem: str = "hidden_") -> dict[str, Any]:
    """Return the parameters of three dense layers of Flax."""
    sizes = [*SIZES[:2], (16, last)]
    return {"params": {f"{stem}{i}": {"kernel": normal(*s) / 4, "bias": normal(s[1])} for i, s in enumerate(sizes)}}


def brax() -> tuple[Any, ...]:
    """Return normaliser, policy and value function as Brax's trainers do."""
    deviation = np.abs(normal(4)) + 0.1
    statistics = {
        "mean": normal(4),
        "std": deviation,
        "count": {"hi": np.array(0, "u4"), "lo": np.array(100, "u4")},
        "summed_variance": deviation**2 * 100,
    }
    return statistics, flax_mlp(), flax_mlp(1)
