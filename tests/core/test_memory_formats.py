"""The memory formats that come with the core."""

import pytest

from holdfast.memory_formats.csv import CsvExporter
from holdfast.memory_formats.npz import NpzExporter
from holdfast.memory_formats.pt import PtExporter
from holdfast.memory_formats.safetensors import SafetensorsExporter
from holdfast.testing.memory_exporter import MemoryExporterContract


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
