"""What a card says is so: its code loads what was pushed, and the Hub reads its front matter and its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.hub.hub_server import Hub

pytestmark = pytest.mark.needs("huggingface_hub", "torch", "jax", "flax")


@pytest.mark.parametrize("trained_on", ["PyTorch", "JAX"])
def test_the_code_of_a_card_loads_what_was_pushed(
    trained_on: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four lines for each framework, whichever it was trained on; the outputs are the run's, also once pulled."""
    from tests.both_backends.hub_pages import assert_a_pushed_run_gives_equal_outputs

    assert_a_pushed_run_gives_equal_outputs(trained_on, hub, tmp_path, monkeypatch)


def test_the_results_are_what_the_client_itself_reads(run: Path, tmp_path: Path) -> None:
    """Of the card's model index and of the newer file: the score, its environment, when and over what it was taken."""
    yaml = pytest.importorskip("yaml")
    import huggingface_hub

    from keepfast.hub.push import fill

    if not hasattr(huggingface_hub, "parse_eval_result_entries"):
        pytest.skip("this client does not know the newer form")
    fill(tmp_path, run, "org/x", "Pendulum-v1", {"mean_reward": 1.5, "std_reward": 0.5, "episodes": 10})
    data = huggingface_hub.ModelCard.load(tmp_path / "README.md").data
    (legacy,) = data.eval_results or []
    assert (data.model_name, legacy.dataset_type, legacy.metric_value) == ("PPO", "Pendulum-v1", "1.50 +/- 0.50")
    read = yaml.safe_load((tmp_path / ".eval_results" / "keepfast.yaml").read_text("utf-8"))
    (entry,) = huggingface_hub.parse_eval_result_entries(read)
    assert (entry.dataset_id, entry.value) == ("Pendulum-v1", 1.5)
    assert entry.notes == "mean_reward, standard deviation 0.5, over 10 episodes"
    assert entry.date is not None
    assert entry.date.endswith("Z")
    fill(tmp_path, run, "org/x", "Pendulum-v1")
    assert "None" not in (tmp_path / ".eval_results" / "keepfast.yaml").read_text("utf-8")
