"""Each reader knows files of its library, takes them apart without running anything, and the outputs are the same."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import keepfast  # noqa: E402
import keepfast.testing  # noqa: E402
from keepfast.migration.readers.brax import BraxReader  # noqa: E402
from keepfast.migration.readers.own import KeepfastReader, PlainReader  # noqa: E402
from keepfast.migration.readers.rl_games import RlGamesReader  # noqa: E402
from keepfast.migration.readers.rsl_rl import RslRlReader  # noqa: E402
from keepfast.migration.readers.skrl import SkrlReader  # noqa: E402
from keepfast.migration.readers.stable_baselines3 import StableBaselines3Reader  # noqa: E402
from keepfast.migration.readers.tianshou import TianshouReader  # noqa: E402
from keepfast.migration.readers.torchrl import TorchRlReader  # noqa: E402
from tests.both_backends import foreign  # noqa: E402

READERS = {
    "stable_baselines3": (StableBaselines3Reader, foreign.stable_baselines3),
    "rl_games": (RlGamesReader, foreign.rl_games),
    "rsl_rl": (RslRlReader, foreign.rsl_rl),
    "plain": (PlainReader, foreign.clean_rl),
    "skrl": (SkrlReader, foreign.skrl),
    "tianshou": (TianshouReader, foreign.tianshou),
    "torchrl": (TorchRlReader, foreign.torchrl),
}


def save(content: Any, path: Any) -> None:
    """Save as PyTorch does, with tensors in the place of arrays; numbers of NumPy stay."""
    arrays = keepfast.tree.map_leaves(
        lambda _path, leaf: torch.from_numpy(np.array(leaf)) if isinstance(leaf, np.ndarray) else leaf, content
    )
    torch.save(arrays, path)


class Policy(nn.Module):
    """Three dense layers and a free deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
        self.log_std_parameter = nn.Parameter(torch.zeros(2))

    def forward(self, inputs: Any) -> Any:
        return self.net(inputs)


class Scaler(nn.Module):
    """Running statistics of observations."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("running_variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("current_count", torch.ones((), dtype=torch.float64))


def value_of(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, outputs))


def value() -> nn.Module:
    return value_of(1)


def outputs(state: dict[str, Any], names: list[str], inputs: Any) -> Any:
    """Return what three dense layers make of inputs."""
    for number, name in enumerate(names):
        inputs = inputs if number == 0 else np.tanh(inputs)
        inputs = inputs @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    return inputs


INPUTS = np.random.default_rng(5).normal(size=(100, 4)).astype("float32")


@pytest.mark.parametrize("library", READERS)
class TestReaders(keepfast.testing.CheckpointReaderContract):
    """Every reader of files of PyTorch fulfils the contract."""

    @pytest.fixture
    def reader(self, library: str) -> Any:
        return READERS[library][0]()

    @pytest.fixture
    def checkpoint(self, library: str, tmp_path: Path) -> Path:
        READERS[library][1](save, tmp_path / "checkpoint")
        return tmp_path / "checkpoint"


class TestOwnReader(keepfast.testing.CheckpointReaderContract):
    """So does the one of Keepfast's own files."""

    @pytest.fixture
    def reader(self) -> Any:
        return KeepfastReader()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return keepfast.save(Policy(), tmp_path / "policy.pt")


def test_every_reader_of_the_table_is_tested() -> None:
    """A reader without a contract would be a claim."""
    from keepfast.plugins.discovery import registry

    built_in = {each.name for each in registry().provided("checkpoint reader") if each.distribution == "keepfast"}
    assert built_in <= {*READERS, "keepfast", "brax"}
    assert BraxReader().library == "brax"


AGENTS = {
    "stable_baselines3": ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net"],
    "rl_games": ["a2c_network.actor_mlp.0", "a2c_network.actor_mlp.2", "a2c_network.mu"],
    "plain": ["actor_mean.0", "actor_mean.2", "actor_mean.4"],
    "tianshou": ["actor.preprocess.model.model.0", "actor.preprocess.model.model.2", "actor.mu.model.0"],
}
DEVIATIONS = {
    "stable_baselines3": "log_std",
    "rl_games": "a2c_network.sigma",
    "plain": "actor_logstd",
    "tianshou": "actor.sigma_param",
}


@pytest.mark.parametrize("library", AGENTS)
@pytest.mark.filterwarnings("ignore:entries of the file are used several times")
def test_a_policy_gives_the_same_actions(library: str, tmp_path: Path) -> None:
    """Actor and critic of equal widths find their own; a logarithm of a deviation stays one."""
    state = READERS[library][1](save, tmp_path / "checkpoint")
    agent = keepfast.Agent({"policy": Policy(), "value": value()})
    report = agent.migrate(tmp_path / "checkpoint", check=(INPUTS, outputs(state, AGENTS[library], INPUTS)))
    assert report
    assert (report.reader, report.reader_version) == (library, READERS[library][0].version)
    assert report.difference is not None
    assert report.difference < 1e-5
    deviation = agent.models["policy"].log_std_parameter.detach().numpy()
    np.testing.assert_array_equal(deviation, state[DEVIATIONS[library]].reshape(-1))


@pytest.mark.parametrize("version", [3, 5])
def test_rsl_rl_brings_its_normaliser_and_deviation(version: int, tmp_path: Path) -> None:
    """A deviation becomes its logarithm where the module keeps that; the normaliser has mean, variance and count."""
    state = foreign.rsl_rl(save, tmp_path / "model_3.pt", version)
    agent = keepfast.Agent({"policy": Policy(), "value": value()})
    agent.checkpoint_modules["state_preprocessor"] = scaler = Scaler()
    expected = outputs(state["actor"], ["mlp.0", "mlp.2", "mlp.4"], INPUTS)
    report = agent.migrate(tmp_path / "model_3.pt", check={"policy": (INPUTS, expected)})
    assert report
    logarithm = np.log(state["actor"]["distribution.std_param"])
    np.testing.assert_allclose(agent.models["policy"].log_std_parameter.detach().numpy(), logarithm, rtol=1e-6)
    np.testing.assert_allclose(scaler.running_mean.numpy(), state["actor"]["obs_normalizer._mean"][0])
    np.testing.assert_allclose(scaler.running_variance.numpy(), state["actor"]["obs_normalizer._var"][0])
    assert scaler.current_count.item() == 100
    assert any("std + 0.01" in note for note in report.notes)


def test_skrl_brings_all_of_an_agent(tmp_path: Path) -> None:
    """Each module finds its own, the preprocessor included."""
    modules = foreign.skrl(save, tmp_path / "agent.pt")
    agent = keepfast.Agent({"policy": Policy(), "value": value()})
    agent.checkpoint_modules["state_preprocessor"] = scaler = Scaler()
    assert agent.migrate(tmp_path / "agent.pt")
    expected = outputs(modules["policy"], ["net.0", "net.2", "policy_layer"], INPUTS)
    made = agent.models["policy"](torch.as_tensor(INPUTS)).detach().numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scaler.running_mean.numpy(), modules["state_preprocessor"]["running_mean"])


def test_statistics_of_vec_normalize_are_read_beside_the_archive(tmp_path: Path) -> None:
    """Their pickle is taken apart without its classes; mean, variance and count arrive."""
    foreign.stable_baselines3(save, tmp_path / "ppo.zip")
    statistics = foreign.vec_normalize(tmp_path / "ppo_vecnormalize.pkl")
    agent = keepfast.Agent({"policy": Policy(), "value": value()})
    agent.checkpoint_modules["state_preprocessor"] = scaler = Scaler()
    report = agent.migrate(tmp_path / "ppo.zip")
    assert report
    np.testing.assert_array_equal(scaler.running_mean.numpy(), statistics["mean"])
    np.testing.assert_array_equal(scaler.running_variance.numpy(), statistics["var"])
    assert scaler.current_count.item() == statistics["count"]
    assert any("ppo_vecnormalize.pkl" in note for note in report.notes)


class RunningMeanStd:
    """Statistics as Tianshou's vectorised environments keep them: an object in the file."""

    def __init__(self, mean: Any, var: Any) -> None:
        self.mean, self.var, self.count, self.clip_max, self.eps = mean, var, 66, 10.0, 1e-8


def test_tianshou_brings_its_statistics(tmp_path: Path) -> None:
    """They are taken apart without their class; the report says how observations were normalised."""
    state = foreign.tianshou(save, tmp_path / "policy.pth")
    mean, var = foreign.normal(4, dtype="f8"), foreign.normal(4, dtype="f8") ** 2
    made = {
        "model": {name: torch.from_numpy(array) for name, array in state.items()},
        "obs_rms": RunningMeanStd(mean, var),
    }
    torch.save(made, tmp_path / "agent.pth")
    agent = keepfast.Agent({"policy": Policy(), "value": value()})
    agent.checkpoint_modules["state_preprocessor"] = scaler = Scaler()
    report = agent.migrate(tmp_path / "agent.pth")
    assert report
    np.testing.assert_array_equal(scaler.running_mean.numpy(), mean)
    np.testing.assert_array_equal(scaler.running_variance.numpy(), var)
    assert scaler.current_count.item() == 66
    assert any("clipped to 10.0" in note for note in report.notes)


def test_no_code_of_an_archive_is_run(tmp_path: Path) -> None:
    """A policy that is a pickle with code is refused, and nothing is loaded."""
    victim = tmp_path / "victim"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.write_text, (victim, "run")

    for name in ("data.pkl", "archive/data.pkl"):
        with zipfile.ZipFile(tmp_path / "inner", "w") as inner:
            inner.writestr(name, pickle.dumps({"w": Hostile()}, protocol=2))
        with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
            archive.writestr("data", "{}")
            archive.write(tmp_path / "inner", "policy.pth")
        net = Policy()
        for path in (tmp_path / "hostile.zip", tmp_path / "inner"):
            with pytest.raises(keepfast.KeepfastError):
                keepfast.migrate(net, path)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 cut off", b"\x80\4.", bytes(range(200))])
def test_a_file_that_nobody_knows_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    """It says which readers there are, and nothing is loaded."""
    (tmp_path / "unknown").write_bytes(content)
    with pytest.raises(keepfast.CorruptCheckpoint, match="stable_baselines3"):
        keepfast.migrate(Policy(), tmp_path / "unknown")


def test_a_missing_file_is_told_by_its_path(tmp_path: Path) -> None:
    """The error is a FileNotFoundError too."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        keepfast.migrate(Policy(), tmp_path / "nowhere.pt")
