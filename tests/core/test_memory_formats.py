"""The memory formats that come with the core."""

import pytest

from keepfast.memory_formats.csv import CsvExporter
from keepfast.memory_formats.npz import NpzExporter
from keepfast.memory_formats.pt import PtExporter
from keepfast.memory_formats.safetensors import SafetensorsExporter
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


class TestCsv(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return CsvExporter()
