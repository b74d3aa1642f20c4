"""The Hub: the real client against a server of the suite's own on 127.0.0.1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from tests.core.hub.hub_server import COMMIT, Hub

pytestmark = pytest.mark.needs("huggingface_hub")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint of two arrays."""
    path = tmp_path / "agent_5.safetensors"
    state = {"policy": {"net.0.weight": np.arange(6.0).reshape(2, 3), "net.0.bias": np.ones(2)}}
    about = keepfast.CheckpointMetadata(
        format_version=1, keepfast="0", backend="torch", modules=("policy",), timestep=5, time=1.0
    )
    SafetensorsStore().save(keepfast.Checkpoint(state, about.as_mapping()), path)
    return path


@pytest.fixture
def published(hub: Hub, checkpoint: Path) -> Hub:
    """Return a hub with a repository that holds the checkpoint."""
    hub.files["org/ppo"] = {"agent.safetensors": checkpoint.read_bytes()}
    return hub


def test_a_file_is_downloaded_and_taken_from_the_cache(
    published: Hub, checkpoint: Path, offline: Callable[[], None]
) -> None:
    """The bytes are those of the repository; offline it is the cache's file."""
    path = keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors")
    assert path.read_bytes() == checkpoint.read_bytes()
    assert keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors", COMMIT) == path
    before = published.requests
    offline()
    assert keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors") == path
    assert published.requests == before


@pytest.mark.parametrize("address", ["hf://org/ppo/agent.safetensors", f"hf://org/ppo@{COMMIT}/agent.safetensors"])
def test_an_address_is_taken_wherever_a_path_is(address: str, published: Hub) -> None:
    """Loading, migrating, verifying and inspecting read it; `pathlib` may have made one slash of two."""
    from keepfast.checkpoints.inspection import inspect
    from keepfast.checkpoints.verification import verify

    for path in (address, Path(address)):
        module = {"net.0.weight": np.zeros((2, 3)), "net.0.bias": np.zeros(2)}
        assert keepfast.load(module, path, modules=["policy"])
        np.testing.assert_array_equal(module["net.0.weight"], np.arange(6.0).reshape(2, 3))
        assert keepfast.migrate({"net.0.weight": np.zeros((2, 3)), "net.0.bias": np.zeros(2)}, path)
        agent = keepfast.Agent({"policy": {"net.0.weight": np.zeros((2, 3)), "net.0.bias": np.zeros(2)}})
        assert agent.load(path).timestep == 5
        assert [verdict.problem for verdict in verify(path)] == [None]
        assert inspect(path).metadata.timestep == 5


@pytest.mark.parametrize(
    ("address", "error", "advice"),
    [
        ("hf://org/nowhere/agent.pt", keepfast.NotFound, "check the name"),
        ("hf://org/ppo/nothing.pt", keepfast.NotFound, "no such file"),
        ("hf://org/ppo@v9/agent.safetensors", keepfast.NotFound, "no revision `v9`"),
        ("hf://org/gated/agent.pt", keepfast.HubError, "ask for access"),
        ("hf://org/ppo", keepfast.InvalidValue, r"hf://org/name\[@revision\]/file"),
        ("hf://o--rg/p..po/agent.pt", keepfast.InvalidValue, "organisation/name"),
    ],
)
def test_what_is_not_there_says_what_to_do(address: str, error: type[Exception], advice: str, published: Hub) -> None:
    """Each is an error of Keepfast's with the next step."""
    published.files["org/gated"] = {}
    published.gated.add("org/gated")
    with pytest.raises(error, match=advice) as caught:
        keepfast.load({"x": np.zeros(1)}, address)
    assert isinstance(caught.value, keepfast.KeepfastError)


def test_offline_without_the_file_says_so(published: Hub, offline: Callable[[], None]) -> None:
    """A file that is not in the cache cannot be had without the Hub."""
    offline()
    with pytest.raises(keepfast.HubError, match="not in the cache"):
        keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors")


def test_a_download_that_is_cut_off_is_an_error(published: Hub) -> None:
    """And the next try, once the connection is whole, gives the file."""
    published.cut_off.add("agent.safetensors")
    with pytest.raises(keepfast.HubError, match="try again"):
        keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors")
    published.cut_off.clear()
    path = keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors")
    assert path.read_bytes() == published.files["org/ppo"]["agent.safetensors"]


def test_a_damaged_download_is_fetched_once_more(published: Hub) -> None:
    """What is damaged again is an error, and never handed out."""
    published.damaged["agent.safetensors"] = 1
    path = keepfast.hub.download_model_from_huggingface("org/ppo", "agent.safetensors")
    assert path.read_bytes() == published.files["org/ppo"]["agent.safetensors"]
    published.files["org/ppo"]["other.safetensors"] = b"content"
    published.damaged["other.safetensors"] = 2
    with pytest.raises(keepfast.HubError, match="arrives damaged"):
        keepfast.hub.download_model_from_huggingface("org/ppo", "other.safetensors")


def test_a_pull_writes_into_no_file_that_has_other_names(hub: Hub, run: Path, tmp_path: Path) -> None:
    """What it replaces may be a file that checkpoints share."""
    keepfast.hub.push(run, "someone/walker")
    (first, *_) = keepfast.hub.pull("someone/walker", tmp_path / "pulled")
    content = first.read_bytes()
    first.write_bytes(b"before")
    first.with_name("other").hardlink_to(first)
    keepfast.hub.pull("someone/walker", tmp_path / "pulled")
    assert (first.read_bytes(), first.with_name("other").read_bytes()) == (content, b"before")


def test_a_run_is_pushed_and_pulled(hub: Hub, run: Path, tmp_path: Path) -> None:
    """Checkpoint, configuration, results, metrics, card and picture arrive; what is pulled loads with equal values."""
    address = keepfast.hub.push(run, "org/pushed", environment="Pendulum-v1")
    assert address.endswith(COMMIT)
    files = hub.files["org/pushed"]
    assert {
        "config.json",
        "results.json",
        "metrics.json",
        "README.md",
        "curve.svg",
        ".eval_results/keepfast.yaml",
    } <= set(files)
    assert json.loads(files["results.json"])["mean_reward"] == pytest.approx(2.5)
    text = files["README.md"].decode()
    for told in ("PPO on Pendulum-v1", "reinforcement-learning", "model-index", "keepfast.load(policy, "):
        assert told in text
    keepfast.hub.pull("org/pushed", tmp_path / "pulled")
    module = {"w": np.zeros(3)}
    assert keepfast.load(module, next((tmp_path / "pulled").glob("agent.*")), modules=["policy"])
    assert module["w"][0] == 5


def test_the_front_matter_is_yaml(run: Path, tmp_path: Path) -> None:
    """The Hub reads tags and the model index from it."""
    yaml = pytest.importorskip("yaml")
    from keepfast.hub.push import fill

    (tmp_path / "folder").mkdir()
    fill(tmp_path / "folder", run, "org/x", "Pendulum-v1", {"mean_reward": 1.5, "std_reward": 0.5, "episodes": 10})
    head = yaml.safe_load((tmp_path / "folder" / "README.md").read_text().split("---")[1])
    assert head["tags"] == ["Pendulum-v1", "reinforcement-learning", "deep-reinforcement-learning", "keepfast"]
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == "1.50 +/- 0.50"
    assert yaml.safe_load((tmp_path / "folder" / ".eval_results" / "keepfast.yaml").read_text())[0]["value"] == 1.5


def test_a_push_without_a_token_says_how_to_log_in(hub: Hub, run: Path) -> None:
    """With one it goes through."""
    hub.token = "secret"
    with pytest.raises(keepfast.HubError, match="hf auth login"):
        keepfast.hub.push(run, "org/pushed")
    assert keepfast.hub.push(run, "org/pushed", token="secret")


def test_nothing_to_push_is_told(hub: Hub, tmp_path: Path) -> None:
    """A path that is not there makes no repository."""
    with pytest.raises(keepfast.NotFound, match="no run or checkpoint"):
        keepfast.hub.push(tmp_path / "nowhere", "org/pushed")
    assert hub.files == {}
