"""What comes with the core, registered as anybody's plugin is. A new format is a row here and a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keepfast.plugins.hookspecs import hookimpl
from keepfast.plugins.lazy import lazy


@hookimpl
def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
    """List the backend of what needs no framework."""
    return {"plain": lazy("keepfast.plain.backend:PlainBackend")}


@hookimpl
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in checkpoint formats."""
    return {
        "pt": lazy("keepfast.formats.checkpoints.pt:PtStore"),
        "safetensors": lazy("keepfast.formats.checkpoints.safetensors:SafetensorsStore"),
        "msgpack": lazy("keepfast.formats.checkpoints.msgpack:MsgpackStore", requires=("msgpack",), extra="jax"),
        "pickle": lazy("keepfast.formats.checkpoints.pickle:PickleStore", requires=("msgpack",), extra="jax"),
    }


@hookimpl
def keepfast_memory_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in memory formats."""
    return {
        "pt": lazy("keepfast.formats.memories.pt:PtExporter"),
        "np": lazy("keepfast.formats.memories.npz:NpzExporter"),
        "npz": lazy("keepfast.formats.memories.npz:NpzExporter"),
        "csv": lazy("keepfast.formats.memories.csv.exporter:CsvExporter", requires=("polars",), extra="data"),
        "safetensors": lazy("keepfast.formats.memories.safetensors:SafetensorsExporter"),
        "parquet": lazy("keepfast.formats.memories.parquet:ParquetExporter", requires=("pyarrow",), extra="data"),
        "minari": lazy("keepfast.formats.memories.minari.exporter:MinariExporter", requires=("h5py",), extra="data"),
    }


@hookimpl
def keepfast_migrations() -> Mapping[str, Callable[[], Any]]:
    """List the built-in readers of checkpoints, those of other libraries and our own."""
    return {
        "brax": lazy("keepfast.migration.readers.brax:BraxReader"),
        "keepfast": lazy("keepfast.migration.readers.own:KeepfastReader"),
        "plain": lazy("keepfast.migration.readers.own:PlainReader"),
        "rl_games": lazy("keepfast.migration.readers.rl_games:RlGamesReader"),
        "rsl_rl": lazy("keepfast.migration.readers.rsl_rl:RslRlReader"),
        "skrl": lazy("keepfast.migration.readers.skrl:SkrlReader"),
        "stable_baselines3": lazy("keepfast.migration.readers.stable_baselines3:StableBaselines3Reader"),
        "tianshou": lazy("keepfast.migration.readers.tianshou:TianshouReader"),
        "torchrl": lazy("keepfast.migration.readers.torchrl:TorchRlReader"),
    }


@hookimpl
def keepfast_adapters() -> Mapping[str, Callable[[], Any]]:
    """List the libraries whose agents are attached."""
    return {
        "rl_games": lazy("keepfast.adapters.rl_games.adapter:RlGamesAdapter", requires=("rl_games",)),
        "rsl_rl": lazy("keepfast.adapters.rsl_rl.adapter:RslRlAdapter", requires=("rsl_rl",)),
        "skrl": lazy("keepfast.adapters.skrl.adapter:SkrlAdapter", requires=("skrl",)),
        "stable_baselines3": lazy(
            "keepfast.adapters.stable_baselines3.adapter:StableBaselines3Adapter", requires=("stable_baselines3",)
        ),
    }


@hookimpl
def keepfast_locations() -> Mapping[str, Callable[[str], Any]]:
    """List the places that addresses name: the Hugging Face Hub."""
    return {"hf": lazy("keepfast.hub.download:fetch", requires=("huggingface_hub",), extra="hub")}
