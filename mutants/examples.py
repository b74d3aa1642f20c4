"""A plugin for pytest: examples of hypothesis as a fault needs them, which is told by any that fails."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],  # to shrink one, with a fault that loops, takes minutes
)
