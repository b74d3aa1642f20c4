"""Every public call times every wrong argument, where no framework is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.both_backends.every_call import EveryCallSuite


class TestEveryCall(EveryCallSuite):
    extension = ".safetensors"

    @pytest.fixture(autouse=True)
    def _made(self, net: Callable[[], Any], numpy_memory: Any) -> None:
        self._net, self._memory = net, numpy_memory

    def net(self) -> Any:
        return self._net()

    def memory(self, *arguments: Any, **options: Any) -> Any:
        return self._memory(*arguments, **options)
