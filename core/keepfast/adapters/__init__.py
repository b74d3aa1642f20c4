"""Adapters: the agents of other libraries, each given all that an experiment keeps, in one line.

None of these libraries is imported for it; whoever has an agent of one has imported it already.
"""

from __future__ import annotations

from keepfast.adapters.attaching import attach
from keepfast.adapters.environments import EnvironmentState
from keepfast.adapters.watching import watch
from keepfast.interfaces.adapter import descends

__all__ = ["EnvironmentState", "attach", "descends", "watch"]
