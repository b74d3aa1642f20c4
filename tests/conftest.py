"""What every test of the suite lives with."""

from __future__ import annotations

import functools
import importlib.util
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.both_backends")

settings.register_profile("suite", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

OUTSIDE = ("KEEPFAST_BACKEND", "KEEPFAST_DISABLE_PLUGINS", "RANK", "WORLD_SIZE", "SLURM_PROCID")

IN_BOTH = {"gymnasium", "ml_dtypes", "PIL", "polars"}
ENVIRONMENTS = {
    "core": set[str](),
    "torch": {"torch", "tensorboard", "fsspec"} | IN_BOTH,
    "jax": {"jax", "flax", "optax", "msgpack", "tensorboardX"} | IN_BOTH,
}
"""The environments that a session of nox each installs, and what tests may need of them; everything is in `all`."""

FOLDERS = {"torch_backend": {"torch"}, "jax_backend": {"jax"}}
"""What every test of a folder needs."""


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start, which would inherit a shell's wish to ignore it behind ``&``."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with the environment it runs in: the smallest that has what it is marked to need.

    Where it tests different things in several, ``runs_in`` names them. A test whose needs are missing is skipped.
    """
    needed = {package for mark in item.iter_markers("needs") for package in mark.args}
    needed |= FOLDERS.get(item.path.parent.name, set())
    several = item.get_closest_marker("runs_in")
    for environment in several.args if several else [_smallest(needed)]:
        item.add_marker(environment)
    if missing := sorted(package for package in needed if not _is_installed(package)):
        item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


def _smallest(needed: set[str]) -> str:
    return next((name for name, has in ENVIRONMENTS.items() if needed <= has), "all")


@functools.cache
def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the slow tests where several processes share the work, so that none is left with one at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _neutral_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of the machine the suite runs on out of the tests."""
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _new_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each test told anew what a file system lacks."""
    if (optional := sys.modules.get("keepfast._system.disk.optional")) is not None:
        monkeypatch.setattr(optional, "lacking", sys.modules["keepfast._system.tally"].Tally())


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).resolve().parents[1]
