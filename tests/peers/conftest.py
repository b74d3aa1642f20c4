"""Tests with other libraries, which a session of its own installs."""

from __future__ import annotations

import importlib.util

SKRL = ["test_skrl_agents.py", "test_skrl_agents_jax.py", "test_skrl_kinds.py"]
collect_ignore = [] if importlib.util.find_spec("skrl") else SKRL
