"""The libraries whose checkpoints are read, as the table of the docs has them and the session `peers` trains them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LibraryRow:
    """What a reader reads.

    Attributes:
        library: whose checkpoints they are.
        reader: the name of the reader.
        algorithms: what is trained for real, and migrated.
        versions: of the library, or the line that is tested.
        files: what its checkpoints are.
        brings: what comes of them.
    """

    library: str
    reader: str
    algorithms: tuple[str, ...]
    versions: str
    files: str
    brings: str


LIBRARIES = (
    LibraryRow(
        *("stable-baselines3", "stable_baselines3", ("PPO", "A2C", "SAC", "TD3", "DDPG", "DQN"), "2.9"),
        "zip; the pickle of a `VecNormalize` beside it or by itself",
        "actor, critics, target networks, `log_std`, entropy coefficient, statistics",
    ),
    LibraryRow(
        *("rl_games", "rl_games", ("PPO on one trunk", "PPO on two trunks"), "1.5", "`.pth`"),
        "actor, critic, deviation, normalisers of observations and values",
    ),
    LibraryRow(
        "rsl_rl", "rsl_rl", ("PPO",), "3.0, 4.0, 5.5", "`model_100.pt`", "actor, critic, deviation, normalisers"
    ),
    LibraryRow(
        *("skrl on PyTorch", "skrl", ("PPO",), "1.4.3, 2.1", "`.pt` of an agent"),
        "every module, preprocessors included",
    ),
    LibraryRow(
        *("skrl on JAX", "skrl", ("PPO",), "1.4.3, 2.1", "`.pickle` of an agent"),
        "every module, preprocessors included",
    ),
    LibraryRow(
        *("TorchRL", "torchrl", ("PPO",), "0.14", "state dicts of modules, losses and environments"),
        "networks; mean and variance of an ObservationNorm or a VecNormV2",
    ),
    LibraryRow(
        *("Tianshou", "tianshou", ("PPO",), "0.5", "`policy.state_dict()`, also beside `get_obs_rms()`"),
        "networks, `sigma_param`, statistics of observations",
    ),
    LibraryRow(
        *("Brax", "brax", ("PPO",), "0.14", "Flax's bytes, or the pickle of `save_params`"),
        "normaliser, policy, value function",
    ),
    LibraryRow(
        *("CleanRL and other programs", "plain", ("PPO on PyTorch", "networks on JAX"), "its layout"),
        "state dicts, trees of arrays, Flax's bytes, safetensors",
        "networks",
    ),
    LibraryRow("Keepfast", "keepfast", ("any",), "this one", "every format", "every module"),
)


def algorithms(library: str) -> set[str]:
    """Return what is trained of a library."""
    return {each for row in LIBRARIES if row.library == library for each in row.algorithms}
