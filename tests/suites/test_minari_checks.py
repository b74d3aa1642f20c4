"""Minari's checks of its data, written anew: over datasets that Keepfast wrote, and over Minari's own that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

import keepfast
from keepfast.formats.memories.minari.exporter import MinariExporter
from keepfast.interfaces.memory_exporter import MemorySnapshot

pytestmark = pytest.mark.filterwarnings("ignore")

BOX = spaces.Box(-1, 4, (2,), np.float32)
SPACES: dict[str, gymnasium.Space[Any]] = {
    "a box": BOX,
    "a box of two dimensions": spaces.Box(-1, 4, (2, 3), np.float64),
    "a box of numbers": spaces.Box(0, 255, (3,), np.uint8),
    "a box without dimensions": spaces.Box(-1, 1, (), np.float32),
    "discrete": spaces.Discrete(5),
    "discrete from elsewhere": spaces.Discrete(5, start=-2),
    "several discrete": spaces.MultiDiscrete([3, 4]),
    "binary": spaces.MultiBinary(4),
    "binary of two dimensions": spaces.MultiBinary([2, 2]),
    "a dictionary": spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}),
    "a tuple": spaces.Tuple((BOX, spaces.Discrete(3))),
    "a dictionary in a tuple": spaces.Tuple((spaces.Dict({"x": BOX, "y": spaces.Tuple((spaces.Discrete(2),))}), BOX)),
    "a text": spaces.Text(6),
    "a dictionary with a text": spaces.Dict({"a": spaces.Text(6), "b": BOX}),
}


def stacked(space: Any, count: int) -> Any:
    values = [space.sample() for _ in range(count)]
    return joined(space, values)


def joined(space: Any, values: list[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: joined(inner, [value[key] for value in values]) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(joined(inner, [value[index] for value in values]) for index, inner in enumerate(space.spaces))
    return values if isinstance(space, spaces.Text) else np.stack(values)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: leaf for key, inner in value.items() for name, leaf in leaves(inner, f"{path}.{key}").items()}
    if isinstance(value, tuple):
        return {
            name: leaf
            for index, inner in enumerate(value)
            for name, leaf in leaves(inner, f"{path}._index_{index}").items()
        }
    return {path: value}


@pytest.mark.parametrize("observed", SPACES)
@pytest.mark.parametrize("acted", ["discrete", "a box", "a dictionary"])
def test_a_dataset_of_minari_is_the_memory_that_it_holds(observed: str, acted: str, tmp_path: Path) -> None:
    """Each value of each episode, in any space of numbers."""
    (tmp_path / "made").mkdir()
    seen, done = SPACES[observed], SPACES[acted]
    storage = MinariStorage.new(tmp_path / "made", seen, done, jpeg_encoding=False)
    episodes = []
    for number, steps in enumerate((3, 1, 4)):
        flags = np.arange(steps) == steps - 1
        observations, actions = stacked(seen, steps + 1), stacked(done, steps)
        episodes.append((observations, actions, np.arange(steps) + 10.0 * number, flags))
        storage.update_episodes(
            [EpisodeBuffer(number, None, None, observations, actions, episodes[-1][2], flags, ~flags & False)]
        )
    if "text" in observed:
        with pytest.raises(keepfast.Unreadable, match="texts"):
            keepfast.read_memory(tmp_path / "made")
        return
    memory = keepfast.read_memory(tmp_path / "made")
    assert memory["rewards"][:, 0, 0].tolist() == [reward for each in episodes for reward in each[2].tolist()]
    for name in leaves(episodes[0][0]):
        values = np.concatenate([np.asarray(leaves(each[0])[name])[:-1] for each in episodes])
        np.testing.assert_array_equal(memory[f"states{name}"].reshape(values.shape), values)
    for name in leaves(episodes[0][1]):
        values = np.concatenate([np.asarray(leaves(each[1])[name]) for each in episodes])
        np.testing.assert_array_equal(memory[f"actions{name}"].reshape(values.shape), values)


def memory_of(dtype: Any, num_envs: int, filled: bool) -> MemorySnapshot:
    steps = np.arange(12)[:, None, None] + 100 * np.arange(num_envs)[None, :, None]
    tensors = {
        "states": (steps + np.zeros(3)).astype(dtype),
        "actions": (steps % 4).astype(np.int64),
        "rewards": steps.astype(np.float32),
        "terminated": steps % 5 == 4,
        "truncated": steps % 7 == 6,
        "values": -steps.astype(np.float32),
    }
    return MemorySnapshot(tensors, 0 if filled else 8, 0, filled, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("filled", [True, False])
def test_a_dataset_of_ours_stands_minaris_checks(dtype: Any, num_envs: int, filled: bool, tmp_path: Path) -> None:
    """As its tests check every dataset: counts, lengths, dtypes, spaces, ids, ends, and drawing from it."""
    path = tmp_path / "memory.minari"
    MinariExporter().save(memory_of(dtype, num_envs, filled), path)
    dataset = minari.MinariDataset(path)
    told = json.loads((path / "metadata.json").read_bytes())
    episodes = list(dataset.iterate_episodes())
    assert len(episodes) == dataset.total_episodes == told["total_episodes"]
    assert sum(len(each.rewards) for each in episodes) == dataset.total_steps == told["total_steps"]
    assert [each.id for each in episodes] == list(range(len(episodes)))
    for each, attributes in zip(episodes, dataset.storage.get_episode_metadata(range(len(episodes))), strict=True):
        steps = len(each.rewards)
        assert attributes["total_steps"] == steps > 0
        assert len(each.observations) == steps + 1
        assert len(each.actions) == len(each.terminations) == len(each.truncations) == steps
        assert all(values.shape[0] == steps + 1 for values in each.infos.values())
        assert all(map(dataset.observation_space.contains, each.observations))
        assert all(map(dataset.action_space.contains, each.actions))
        assert not (each.terminations | each.truncations)[:-1].any()
        assert (each.terminations | each.truncations)[-1]
    some = dataset.filter_episodes(lambda episode: len(episode.rewards) > 2)
    assert some.total_episodes == sum(len(each.rewards) > 2 for each in episodes)
    assert len(dataset.sample_episodes(2)) == 2


@pytest.mark.parametrize("kind", ["hosting", "the command line", "namespaces", "documentation", "collecting with gym"])
def test_what_is_minaris_own(kind: str) -> None:
    """Its further tests are of services around datasets."""
    pytest.skip(f"{kind} of Minari is no file format, and the product has none of it")
