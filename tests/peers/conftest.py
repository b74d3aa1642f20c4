"""Tests with other libraries, which a session of its own installs."""

from __future__ import annotations

import importlib.util

SKRL = [f"test_skrl_{each}.py" for each in ("agents", "agents_jax", "attached", "attached_jax", "kinds", "memories")]
collect_ignore = [] if importlib.util.find_spec("skrl") else SKRL
