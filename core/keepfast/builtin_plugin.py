"""The formats that come with the core, registered as anybody's plugin is. A new format is a row here and a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keepfast.hookspecs import hookimpl
from keepfast.plugins import lazy


@hookimpl
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in checkpoint formats."""
    return {
        "pt": lazy("keepfast.formats.pt:PtStore"),
        "safetensors": lazy("keepfast.formats.safetensors:SafetensorsStore"),
        "msgpack": lazy("keepfast.formats.msgpack:MsgpackStore", requires=("msgpack",), extra="jax"),
        "pickle": lazy("keepfast.formats.flax_pickle:PickleStore", requires=("msgpack",), extra="jax"),
    }


@hookimpl
def keepfast_memory_formats() -> Mapping[str, Callable[[], Any]]:
    """List the built-in memory formats."""
    return {
        "pt": lazy("keepfast.memory_formats.pt:PtExporter"),
        "np": lazy("keepfast.memory_formats.npz:NpzExporter"),
        "npz": lazy("keepfast.memory_formats.npz:NpzExporter"),
        "csv": lazy("keepfast.memory_formats.csv:CsvExporter"),
        "safetensors": lazy("keepfast.memory_formats.safetensors:SafetensorsExporter"),
        "parquet": lazy("keepfast.memory_formats.parquet:ParquetExporter", requires=("pyarrow",), extra="data"),
        "minari": lazy("keepfast.memory_formats.minari:MinariExporter", requires=("h5py",), extra="data"),
    }
