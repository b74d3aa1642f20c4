"""The workshop: `python -m nox` runs the tests, the linter and the type checker."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests", "tests_core", "tests_torch", "tests_jax", "lint", "types"]
nox.options.default_venv_backend = "virtualenv"
nox.needs_version = ">=2024.10"

CONSTRAINTS = ("-c", "constraints.txt")
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "pyyaml", "safetensors")
FURTHER_TOOLS = ("pytest-xdist", "matplotlib", "moviepy", "hatchling", "editables", "pandas", "duckdb", "minari")
"""What some tests of the whole suite need: peers that read our files, and what builds a plugin."""


def install(session: nox.Session, extras: str, *tools: str) -> None:
    """Install the project as its users do, with exact versions."""
    session.install(*CONSTRAINTS, f".[{extras}]" if extras else ".", *tools)


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run pytest; slow tests that need no environment of their own run once, in the session `tests`."""
    session.run("python", "-m", "pytest", *arguments, *session.posargs, env={"WANDB_MODE": "offline"})


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo; arguments after ``--`` go to it."""
    install(session, "torch,demo")
    session.run("keepfast", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test, with everything installed; those that compare durations run while nothing else does."""
    install(session, "all", *TEST_TOOLS, *FURTHER_TOOLS)
    if session.posargs:
        run_tests(session)
        return
    run_tests(session, "-m", "not timing", "--numprocesses=2", "--dist=loadfile")
    run_tests(session, "-m", "timing")


@nox.session
def tests_core(session: nox.Session) -> None:
    """Run what needs no framework, without one."""
    install(session, "", *TEST_TOOLS)
    run_tests(session, "-m", "not slow", "tests/core", "tests/writers", "tests/architecture")


@nox.session
def tests_torch(session: nox.Session) -> None:
    """Run what needs PyTorch, without JAX."""
    install(session, "torch,demo", *TEST_TOOLS)
    run_tests(session, "-m", "not slow", "tests/torch_backend", "tests/writers")


@nox.session
def tests_jax(session: nox.Session) -> None:
    """Run what needs JAX, without PyTorch and without the tensorboard package."""
    install(session, "jax,demo", *TEST_TOOLS)
    run_tests(session, "-m", "not slow", "tests/jax_backend", "tests/writers")
    run_tests(session, "tests/jax_backend/test_demo_jax.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly, with everything installed."""
    install(session, "all", "mypy", "types-PyYAML", "pytest")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    install(session, "torch,jax,demo", "mkdocs-material", "mkdocstrings[python]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against peers; names of benchmarks after ``--`` choose some."""
    install(session, "all")
    session.install(*CONSTRAINTS, "-r", "benchmarks/requirements.txt")
    session.run("python", "-m", "benchmarks", *session.posargs, env={"WANDB_MODE": "offline"})
