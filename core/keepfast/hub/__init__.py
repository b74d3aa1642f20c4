"""The Hugging Face Hub: checkpoints from there, and runs to there."""

from __future__ import annotations

from keepfast.hub.download import download_model_from_huggingface, pull
from keepfast.hub.push import push

__all__ = ["download_model_from_huggingface", "pull", "push"]
