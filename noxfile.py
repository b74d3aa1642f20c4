"""The workshop: `python -m nox` runs the tests, the type checker and the linter."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox

nox.options.sessions = ["tests_core", "tests_torch", "tests_jax", "tests_all", "lint", "guard"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.needs_version = ">=2024.10"

CONSTRAINTS = ("-c", "constraints.txt")
TEST_TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "pyyaml", "safetensors")
FURTHER_TOOLS = (
    "matplotlib",
    "minari",
    "moviepy",
    "omegaconf",
    "pip",
    "hatchling",
    "editables",
    "pandas",
    "duckdb",
    "pygame",
)
"""What some tests need beside the extra `all`: peers that read our files, and what builds a plugin."""

OLDER_SKRL = "skrl==1.4.3"
"""The other line of skrl, whose agents are called otherwise."""

NEWER_SKRL = "skrl==2.1.1"
"""The newer line, which the benchmarks have beside the other one."""

PEERS = "tests/peers"
FURTHER_LINES = {
    OLDER_SKRL: "test_skrl_[akmt]*.py",
    "rsl-rl-lib==3.0.0": "test_rsl_rl_trained.py",
    "rsl-rl-lib==4.0.0": "test_rsl_rl_trained.py",
    "rl-games==1.6.5": "test_rl_games_*.py",
}
"""Other lines of peers than those of `tests/peers/requirements.txt`, each with the tests that tell them apart.

They are installed without what they ask for: rl_games over Gymnasium asks for older tools, which its agents never use.
"""

OLDEST_HUB = "huggingface_hub==0.25.0"
"""The lowest client of the Hub that the extra `hub` allows; those before lack the errors that say what is missing."""

OF_ITS_OWN = "python-dateutil"
"""What botocore has an older one of than everything else here; the tests of object stores pin it themselves."""

SHIPPING_TESTS = ("flax", "tensorboardX")
"""The peers whose sources on the index have tests that can be run over the product."""

DOCS_TOOLS = ("zensical", "mkdocstrings[python]")
"""What builds the documentation; it reads `mkdocs.yml`, and so does MkDocs."""

NOTEBOOK_TOOLS = ("nbclient", "ipykernel")

PYTHONS = ("3.11", "3.12", "3.13")
"""What is supported, and so what types and style are checked for, whichever of them is here."""

NEWER_SYNTAX = "UP040,UP046,UP047"
"""Rules that ask for what the oldest of these lacks, `type` statements and type parameters."""

TYPE_TOOLS = ("mypy", "types-PyYAML")
ENVIRONMENTS = ("core", "torch", "jax", "all")
"""Each test runs in the smallest of these that has what it needs; `tests/conftest.py` tells which that is."""

WORKERS = max(4, os.cpu_count() or 1)
"""More than a small machine has cores: tests that wait for a disk, a signal or a process leave theirs to another."""

FAILED, NONE_CHOSEN = 1, 5
"""How pytest ends where a test failed, and where no test is left to run."""

PIP_TO_UV = {
    "find-links": ("UV_FIND_LINKS", ","),
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
"""By an option of pip's configuration: uv's variable for it, and what stands between several values there."""


@functools.cache
def configured_for_pip() -> dict[str, str]:
    """Return what pip is configured with on this machine, as variables for uv, which does not read it."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = [line.partition("=")[::2] for line in listed.stdout.splitlines() if "=" in line]
    found = {}
    for section in ("global.", "install.", ":env:."):  # the later one counts, as for pip
        for name, value in settings:
            if (option := name.removeprefix(section)) in PIP_TO_UV and name.startswith(section):
                variable, between = PIP_TO_UV[option]
                found[variable] = between.join(ast.literal_eval(value).split())
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip takes the best of all its indexes
    return {variable: value for variable, value in found.items() if variable not in os.environ}


def install(session: nox.Session, *what: str) -> None:
    """Install with exact versions, and compile at once what many processes will import."""
    session.install(*CONSTRAINTS, *what, env={"UV_COMPILE_BYTECODE": "1", **configured_for_pip()})


def project(extras: str = "") -> str:
    """Return what installs the project as its users do."""
    return f".[{extras}]" if extras else "."


@functools.cache
def records() -> Path:
    """Return the folder, empty at first, where the sessions of this run of nox write what became of each test."""
    folder = Path(".nox", "records")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def run_tests(session: nox.Session, environment: str) -> None:
    """Run the tests of an environment, or what arguments after ``--`` choose of them.

    Those that compare durations need no framework; they run by themselves, after the others.
    """
    if session.posargs:
        pytest(session, "-m", environment, *session.posargs, success_codes=[0, NONE_CHOSEN])
        return
    others = [f"--ignore=tests/{folder}" for folder in ("peers", "suites", "pages", "object_stores", "distributed")]
    recording = (*others, "-p", "tests.suite.record", "--record")
    parallel = (f"--numprocesses={WORKERS}", "--dist=loadgroup")
    chosen = ("-m", f"{environment} and not timing", *parallel, *recording, f"{records()}/{environment}.json")
    pytest(session, *chosen, environment=compiled_once(session))
    if environment == "core":
        pytest(session, "-m", "core and timing", *recording, f"{records()}/{environment}-timing.json")


def compiled_once(session: nox.Session) -> dict[str, str]:
    """Return what has JAX keep what it compiled for the other processes of the session."""
    folder = str(Path(session.create_tmp(), "compiled").resolve())
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"JAX_COMPILATION_CACHE_DIR": folder, **always}


def pytest(
    session: nox.Session,
    *arguments: str,
    success_codes: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run pytest; what it starts does not take each core for its own."""
    variables = {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "KEEPFAST_INSTALLED": "1", **(environment or {})}
    session.run("python", "-m", "pytest", *arguments, env=variables, success_codes=success_codes)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo; arguments after ``--`` go to it."""
    install(session, project("torch,demo"))
    session.run("keepfast", "demo", *session.posargs)


@nox.session
def tests_core(session: nox.Session) -> None:
    """Run what needs no framework, without one."""
    install(session, project(), *TEST_TOOLS)
    run_tests(session, "core")


@nox.session
def tests_torch(session: nox.Session) -> None:
    """Run what needs PyTorch, without JAX."""
    install(session, project("torch,demo"), *TEST_TOOLS)
    run_tests(session, "torch")


@nox.session
def tests_jax(session: nox.Session) -> None:
    """Run what needs JAX, without PyTorch and without the tensorboard package."""
    install(session, project("jax,demo"), *TEST_TOOLS)
    run_tests(session, "jax")


@nox.session
def tests_all(session: nox.Session) -> None:
    """Run what needs more than that, with everything installed, and check the types; arguments go to pytest alone."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS, *TYPE_TOOLS)
    run_tests(session, "all")
    if not session.posargs:
        session.run("mypy")


@nox.session(venv_backend="none")
def guard(session: nox.Session) -> None:
    """Fail where a test passed in none of the sessions before; with arguments for pytest they ran a part, so skip."""
    if session.posargs:
        session.skip("arguments after -- chose a part of the tests")
    session.run(sys.executable, "tests/suite/guard.py", str(records()), *ENVIRONMENTS, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    for version in PYTHONS[1:]:
        target = f"py{version.replace('.', '')}"
        session.run("ruff", "check", "--target-version", target, "--extend-ignore", NEWER_SYNTAX, ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types alone, strictly, with everything installed, for each Python that is supported."""
    install(session, project("all"), *TYPE_TOOLS, "pytest")
    for version in PYTHONS:
        session.run("mypy", "--python-version", version)


@nox.session
def mutants(session: nox.Session) -> None:
    """Put small faults in, one at a time, and fail where the tests let one live; numbers or files choose some."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS)
    session.run("python", "-m", "mutants", *session.posargs, env={"WANDB_MODE": "offline"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Change honest files of every format a million times, and read each under limits; a number says how often each."""
    install(session, project("all"), *TEST_TOOLS)
    session.run("python", "-m", "tests.hostile.fuzz", *(session.posargs or ["35000"]))


@nox.session
def peers(session: nox.Session) -> None:
    """Run what needs objects of other libraries themselves, of each of their lines, and print what was found as tables.

    Arguments go to pytest, which runs with the newest line of each then.
    """
    install(session, project("all"), *TEST_TOOLS, "-r", f"{PEERS}/requirements.txt")
    if session.posargs:
        pytest(session, PEERS, *session.posargs)
        return
    folder = Path(session.create_tmp(), "found").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run_peers(session, folder / "the newest of each.json", PEERS)
    for line, tests in FURTHER_LINES.items():
        session.install("--no-deps", line, env=configured_for_pip())
        run_peers(session, folder / f"{line}.json", *sorted(map(str, Path(PEERS).glob(tests))))
    session.run("python", "-m", f"{PEERS.replace('/', '.')}.tables", str(folder))


def run_peers(session: nox.Session, record: Path, *tests: str) -> None:
    """Run tests with what is installed, to the end where some fail: the tables at the end of the session tell."""
    parallel = ("--numprocesses=2", "--dist=worksteal", "--timeout=1800")  # others may share the machine
    recorded = ("-p", "tests.suite.record", "--record", str(record))
    pytest(session, *tests, *parallel, *recorded, success_codes=[0, FAILED], environment=compiled_once(session))


@nox.session
def oldest_hub(session: nox.Session) -> None:
    """Run what goes to the Hub with the oldest client that is allowed; arguments go to pytest."""
    install(session, project(), *TEST_TOOLS)
    session.install(OLDEST_HUB)  # the exact versions are those of the newest
    pytest(session, "tests/core/hub", "tests/core/cli/test_hub.py", *session.posargs)


@nox.session
def remote(session: nox.Session) -> None:
    """Keep runs on an S3 server of the tests' own, and cut it off fifty times; arguments go to pytest."""
    pinned = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = Path(session.create_tmp(), "constraints.txt").resolve()
    constraints.write_text("\n".join(line for line in pinned if not line.startswith(OF_ITS_OWN)), encoding="utf-8")
    needed = (project("remote"), *TEST_TOOLS, "-r", "tests/object_stores/requirements.txt")
    session.install("-c", str(constraints), *needed, env=configured_for_pip())
    pytest(session, "tests/object_stores", "--timeout=0", *session.posargs)


@nox.session
def suites(session: nox.Session) -> None:
    """Run the tests that peers ship, and cases like theirs, over the product, and count them; arguments choose some."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS, "-r", "tests/suites/requirements.txt")
    folder = Path(session.create_tmp()).resolve()
    download = ("python", "-m", "pip", "download", "--no-deps", "--no-binary", ",".join(SHIPPING_TESTS), *CONSTRAINTS)
    session.run(*download, "--dest", str(folder), *SHIPPING_TESTS)
    ours = ("tests/suites", "tests/peers/test_skrl_agents.py", "tests/peers/test_skrl_objects.py")
    pytest(session, "-rN", *(session.posargs or ours), environment={"KEEPFAST_SUITES": str(folder)})


@nox.session
def pages(session: nox.Session) -> None:
    """Look at the report, the documentation and TensorBoard's page of the demo in Chromium, where it is installed.

    A notebook runs in a kernel of Jupyter, and the page on Hydra with Hydra, browser or not.
    """
    install(session, project("all"), *TEST_TOOLS, *DOCS_TOOLS, *NOTEBOOK_TOOLS, "hydra-core")
    pytest(session, "tests/pages", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Build what is uploaded, check it, and import it from the wheel alone."""
    install(session, "build", "twine", "hatchling")
    folder = Path(session.create_tmp(), "dist").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder))
    built = sorted(map(str, folder.iterdir()))
    session.run("python", "-m", "twine", "check", "--strict", *built)
    (wheel,) = (path for path in built if path.endswith(".whl"))
    install(session, wheel)
    session.chdir(folder)
    session.run("keepfast", "--version")


@nox.session
def crash(session: nox.Session) -> None:
    """Kill fifty times in every way, and write and read more than four gigabytes; arguments go to pytest."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS)
    session.env |= {"KEEPFAST_KILLS": "50", "KEEPFAST_LARGE": "1"}
    chosen = session.posargs or ("tests/crash", "tests/core/formats/test_pt.py")
    pytest(session, "-s", "--timeout=0", *chosen)


@nox.session
def powerloss(session: nox.Session) -> None:
    """Play two power losses at every call that changes the disk; arguments go to pytest."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS)
    session.env["KEEPFAST_POWERLOSS"] = "2"
    pytest(session, "tests/crash/test_power_loss.py", "-s", "--timeout=0", *session.posargs)


@nox.session
def distributed(session: nox.Session) -> None:
    """Kill fifty times while several processes save, resume on eight and back, and run what ranks, Ray and SLURM do."""
    install(session, project("all"), *TEST_TOOLS, *FURTHER_TOOLS, "-r", "tests/distributed/requirements.txt")
    session.env["KEEPFAST_KILLS"] = "50"
    sharded = "tests/torch_backend/test_sharded.py", "tests/jax_backend/test_sharded.py"
    pytest(session, "-s", "--timeout=0", *(session.posargs or (*sharded, "tests/distributed")))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    install(session, project("torch,jax,demo"), *DOCS_TOOLS)
    session.run("zensical", "build", "--strict", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against peers; names of benchmarks after ``--`` choose some."""
    install(session, project("all"))
    install(session, "-r", "benchmarks/requirements.txt")
    newer = Path(session.create_tmp(), "skrl").resolve()
    install(session, "--no-deps", "--target", str(newer), NEWER_SKRL)
    session.run(
        "python", "-m", "benchmarks", *session.posargs, env={"WANDB_MODE": "offline", "KEEPFAST_SKRL": str(newer)}
    )
