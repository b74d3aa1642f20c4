"""Tests with other libraries, which a session of its own installs."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("skrl") else ["test_skrl_agents.py"]
