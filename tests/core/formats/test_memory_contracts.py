"""The memory formats that come with the core."""

import pytest

from keepfast.formats.memories.npz import NpzExporter
from keepfast.formats.memories.pt import PtExporter
from keepfast.formats.memories.safetensors import SafetensorsExporter
from keepfast.testing.memory_exporter import MemoryExporterContract


class TestPt(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return PtExporter()


class TestNpz(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return NpzExporter()


class TestSafetensors(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return SafetensorsExporter()


@pytest.mark.needs("polars")
class TestCsv(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        from keepfast.formats.memories.csv import CsvExporter

        return CsvExporter()
