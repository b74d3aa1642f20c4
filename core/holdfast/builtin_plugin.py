"""The formats that come with the core, registered as anybody's plugin is. A new format is a row here and a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from holdfast.hookspecs import hookimpl
from holdfast.plugins import lazy


@hookimpl
def holdfast_checkpoint_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in checkpoint formats."""
    return {
        "pt": lazy("holdfast.formats.pt:PtStore"),
        "safetensors": lazy("holdfast.formats.safetensors:SafetensorsStore"),
        "msgpack": lazy("holdfast.formats.msgpack:MsgpackStore", requires=("msgpack",), extra="jax"),
        "pickle": lazy("holdfast.formats.flax_pickle:PickleStore", requires=("msgpack",), extra="jax"),
    }


@hookimpl
def holdfast_memory_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in memory formats."""
    return {
        "pt": lazy("holdfast.memory_formats.pt:PtExporter"),
        "np": lazy("holdfast.memory_formats.npz:NpzExporter"),
        "npz": lazy("holdfast.memory_formats.npz:NpzExporter"),
        "csv": lazy("holdfast.memory_formats.csv:CsvExporter"),
        "safetensors": lazy("holdfast.memory_formats.safetensors:SafetensorsExporter"),
        "parquet": lazy("holdfast.memory_formats.parquet:ParquetExporter", requires=("pyarrow",), extra="data"),
        "minari": lazy("holdfast.memory_formats.minari:MinariExporter", requires=("h5py",), extra="data"),
    }
