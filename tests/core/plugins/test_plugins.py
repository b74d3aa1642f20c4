"""Plugins: found through entry points, handed out by name, and harmless when broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

import keepfast
from keepfast.plugins import HOOKS, PluginRegistry, lazy, registry


def plugin(**tables: Any) -> SimpleNamespace:
    """Return a plugin whose hooks return the given tables, or raise the given exceptions."""

    def hook(table: Any) -> Callable[[], Any]:
        @keepfast.hookimpl
        def implementation() -> Any:
            if isinstance(table, Exception):
                raise table
            return table

        return implementation

    return SimpleNamespace(**{name: hook(table) for name, table in tables.items()})


@pytest.fixture
def plugins() -> PluginRegistry:
    """Return an empty registry."""
    return PluginRegistry()


def test_what_a_plugin_provides_is_handed_out_by_name(plugins: PluginRegistry) -> None:
    """A name leads to the factory that the plugin's hook returned."""
    plugins.register(plugin(keepfast_writers={"print": dict, "log": list}), "mine", "my-dist", "1.2")
    assert plugins.get("writer", "print") is dict
    assert plugins.names("writer") == ["log", "print"]
    assert [(p.kind, p.name, p.distribution, p.version, p.status) for p in plugins.everything()] == [
        ("writer", "log", "my-dist", "1.2", "ready"),
        ("writer", "print", "my-dist", "1.2", "ready"),
    ]


def test_what_is_taken_back_is_unknown(plugins: PluginRegistry) -> None:
    """After `unregister` the name is free for another plugin."""
    first = plugin(keepfast_writers={"print": dict})
    plugins.register(first, "mine")
    plugins.unregister(first)
    assert plugins.names("writer") == []
    plugins.register(plugin(keepfast_writers={"print": list}), "mine")
    assert plugins.get("writer", "print") is list


@pytest.mark.parametrize("kind", HOOKS)
def test_an_unknown_name_is_answered_with_the_known_and_the_nearest(plugins: PluginRegistry, kind: str) -> None:
    """The error reads the same for every kind, and is the KeyError and ValueError a caller would expect."""
    plugins.register(plugin(**{HOOKS[kind]: {"tensorboard": dict, "jsonl": dict}}), "mine")
    with pytest.raises(keepfast.UnknownPlugin) as raised:
        plugins.get(kind, "tensorbord")
    assert str(raised.value) == f"unknown {kind} `tensorbord`; known: jsonl, tensorboard. Did you mean `tensorboard`?"
    assert isinstance(raised.value, KeyError)
    assert isinstance(raised.value, ValueError)


def test_an_unknown_name_far_from_all_gets_no_suggestion(plugins: PluginRegistry) -> None:
    """A guess that helps nobody is not made."""
    with pytest.raises(keepfast.UnknownPlugin, match=r"unknown writer `x`; known: \(none\)\.$"):
        plugins.get("writer", "x")


def test_two_plugins_claiming_one_name_are_both_named(plugins: PluginRegistry) -> None:
    """Asking for the name is an error with both distributions; other names are handed out as ever."""
    plugins.register(plugin(keepfast_writers={"print": dict, "other": dict}), "a", "keepfast-a", "1.0")
    plugins.register(plugin(keepfast_writers={"print": list}), "b", "keepfast-b", "2.0")
    with pytest.raises(keepfast.PluginConflict) as raised:
        plugins.get("writer", "print")
    assert str(raised.value) == (
        "the writer `print` is claimed by keepfast-a 1.0 and keepfast-b 2.0; uninstall one of them"
    )
    assert plugins.get("writer", "other") is dict


def test_a_plugin_is_registered_once(plugins: PluginRegistry) -> None:
    """The same plugin or name again is refused, and the first stays as it is."""
    first = plugin(keepfast_writers={"print": dict})
    plugins.register(first, "mine")
    for again, name in ((first, "mine"), (first, "other"), (plugin(), "mine")):
        with pytest.raises(keepfast.PluginConflict, match=f"`{name}` is registered already"):
            plugins.register(again, name)
    assert plugins.get("writer", "print") is dict


def test_an_unknown_hook_is_refused(plugins: PluginRegistry) -> None:
    """A misspelt hook is no silent nothing; the plugin is not registered by half."""
    with pytest.raises(pluggy.PluginValidationError, match="keepfast_writrs"):
        plugins.register(plugin(keepfast_writrs={}, keepfast_backends={"x": dict}), "mine")
    assert plugins.names("backend") == []


def test_a_hook_with_arguments_it_does_not_have_is_refused(plugins: PluginRegistry) -> None:
    """The plugin is not registered by half, and the registry serves on."""

    @keepfast.hookimpl
    def keepfast_writers(context: Any) -> Mapping[str, Any]:
        return {}

    wrong = plugin(keepfast_backends={"x": dict})
    wrong.keepfast_writers = keepfast_writers
    with pytest.raises(pluggy.PluginValidationError, match="context"):
        plugins.register(wrong, "mine")
    assert list(plugins.everything()) == []


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (RuntimeError("no display"), "RuntimeError: no display"),
        (None, "TypeError: 'NoneType' object is not iterable"),
        ({1: dict}, r"TypeError: it lists 1 with <class 'dict'>; allowed: a string with a callable"),
        ({"x": "module:Class"}, "TypeError: it lists 'x' with 'module:Class'; allowed"),
    ],
    ids=["raises", "nothing", "no string", "no callable"],
)
def test_a_hook_that_fails_hurts_nobody_who_did_not_ask(plugins: PluginRegistry, table: Any, cause: str) -> None:
    """The others' names work; the failure is told with distribution, version and cause to whom it may concern."""
    plugins.register(plugin(keepfast_writers={"print": dict}), "good")
    plugins.register(plugin(keepfast_writers=table), "my-dist:bad", "my-dist", "0.1")
    plugins.register(plugin(keepfast_writers={"note": list}), "good too")
    assert plugins.get("writer", "print") is dict
    assert plugins.get("writer", "note") is list
    told = f"plugin `bad` of my-dist 0.1 failed to load: {cause}"
    for name in ("bad", "my-dist", "my_dist"):
        with pytest.raises(keepfast.BrokenPlugin, match=told) as raised:
            plugins.get("writer", name)
        assert raised.value.__cause__ is plugins.broken[0].cause
    with pytest.raises(keepfast.UnknownPlugin, match=told):
        plugins.get("writer", "whatever it would have provided")
    assert len(plugins.broken) == 1


def test_a_missing_framework_is_answered_with_the_command_that_installs_it() -> None:
    """The error and the status say what is missing and which extra brings it."""
    factory = lazy("keepfast_torch.backend:TorchBackend", requires=("no_such_framework",), extra="torch")
    with pytest.raises(keepfast.MissingDependency) as raised:
        factory()
    command = 'pip install "keepfast[torch]"'
    assert str(raised.value) == (f"`TorchBackend` needs `no_such_framework`, which is not installed; run: {command}")
    assert isinstance(raised.value, ImportError)
    plugins = PluginRegistry()
    plugins.register(plugin(keepfast_backends={"torch": factory}), "mine")
    (provided,) = plugins.everything()
    assert provided.status == f"needs `no_such_framework`, which is not installed; run: {command}"


def test_without_an_extra_the_packages_themselves_are_named() -> None:
    """A third party's missing packages are listed with pip's own command."""
    factory = lazy("m:C", requires=("no_such_one", "no_such_two"))
    with pytest.raises(
        keepfast.MissingDependency,
        match="`no_such_one`, `no_such_two`, which are not installed; run: pip install no_such_one no_such_two",
    ):
        factory()


def test_a_lazy_target_is_imported_when_it_is_called() -> None:
    """Making and listing one costs no import; calling passes all arguments."""
    assert lazy("no_such_module:Class").missing() == ()
    assert lazy("collections:Counter")("aab", b=2) == {"a": 2, "b": 3}
    with pytest.raises(ModuleNotFoundError):
        lazy("no_such_module:Class")()


def test_the_built_in_parts_come_through_the_same_door() -> None:
    """Backends, writers and formats of this distribution are plugins with its name and version."""
    provided = {(p.kind, p.name): p for p in registry().everything() if p.distribution == "keepfast"}
    assert {
        ("backend", "jax"),
        ("backend", "torch"),
        ("checkpoint format", "pt"),
        ("checkpoint format", "safetensors"),
        ("memory format", "csv"),
        ("memory format", "np"),
        ("memory format", "pt"),
        ("writer", "jsonl"),
        ("writer", "tensorboard"),
    } <= set(provided)
    assert all(isinstance(p.factory, lazy) for p in provided.values())
    assert registry().broken == []


BROKEN = {
    "importing": ("import no_such_dependency\n", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    "raising": ("raise RuntimeError('at import')\n", "RuntimeError: at import"),
    "misspelt": (
        "import keepfast\n@keepfast.hookimpl\ndef keepfast_writrs():\n    return {}\n",
        "PluginValidationError: unknown hook 'keepfast_writrs'",
    ),
    "failing": (
        "import keepfast\n@keepfast.hookimpl\ndef keepfast_writers():\n    raise OSError('in the hook')\n",
        "OSError: in the hook",
    ),
}

WORKING = """
import keepfast

class PrintWriter(keepfast.Writer):
    def __init__(self, context, prefix=""):
        self.prefix = prefix

    def write_scalars(self, scalars, step, wall_time):
        print(self.prefix, scalars)

@keepfast.hookimpl
def keepfast_writers():
    return {"print": PrintWriter}
"""

ASKING = """
import json, sys
import keepfast

registry = keepfast.plugins.registry()
told = {}
for name in sys.argv[1:]:
    try:
        told[name] = repr(registry.get("writer", name))
    except keepfast.KeepfastError as error:
        told[name] = f"{type(error).__name__}: {error}"
told["broken"] = [str(broken) for broken in registry.broken]
told["loaded"] = sorted({"torch", "jax", "flax", "tensorboard", "tensorboardX", "wandb"} & set(sys.modules))
print(json.dumps(told))
"""


def install(site: Path, name: str, source: str) -> None:
    """Lay down an installed distribution: a module, and the metadata with its entry point."""
    module = f"{name}_plugin"
    (site / f"{module}.py").write_text(source)
    info = site / f"keepfast_{name}-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: keepfast-{name}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[keepfast]\n{name} = {module}\n")


def ask(site: Path, *names: str, first: str = "") -> dict[str, Any]:
    """Ask a fresh interpreter, which has the distributions of `site`, for writers."""
    program = f"{first}import sys; sys.path.insert(0, {str(site)!r})\n{ASKING}"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *names], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_installed_plugins_are_found_and_broken_ones_told(tmp_path: Path) -> None:
    """Real distributions, a working one beside four broken ones: it works, and each cause comes to who asks for it."""
    install(tmp_path, "working", WORKING)
    for name, (source, _) in BROKEN.items():
        install(tmp_path, name, source)
    told = ask(tmp_path, "print", "unheard of", *BROKEN)
    assert told["print"] == "<class 'working_plugin.PrintWriter'>"
    for name, (_, cause) in BROKEN.items():
        assert told[name].startswith(f"BrokenPlugin: plugin `{name}` of keepfast-{name} 0.3 failed to load: {cause}")
        assert told[name].removeprefix("BrokenPlugin: ") in told["unheard of"]
        assert told[name].removeprefix("BrokenPlugin: ") in told["broken"]
    assert len(told["broken"]) == len(BROKEN)


def test_a_hook_of_another_version_costs_that_hook_alone(tmp_path: Path) -> None:
    """A plugin with a hook that this version lacks is told of, and its writers work all the same."""
    install(tmp_path, "working", WORKING + "\n\n@keepfast.hookimpl\ndef keepfast_kites():\n    return {}\n")
    told = ask(tmp_path, "print")
    assert told["print"] == "<class 'working_plugin.PrintWriter'>"
    assert [cause.rpartition(": ")[2] for cause in told["broken"]] == ["unknown hook 'keepfast_kites'"]


@pytest.mark.parametrize("name", ["working", "keepfast-working", "other, Keepfast_Working"])
def test_a_plugin_can_be_disabled(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEEPFAST_DISABLE_PLUGINS names entry points or distributions, and their writers are unknown then."""
    install(tmp_path, "working", WORKING)
    monkeypatch.setenv("KEEPFAST_DISABLE_PLUGINS", name)
    assert ask(tmp_path, "print")["print"].startswith("UnknownPlugin: unknown writer `print`")


def test_in_strict_mode_a_broken_plugin_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With KEEPFAST_STRICT_PLUGINS the first question raises what a plugin raised; without, the others work."""
    install(tmp_path, "faulty", "raise RuntimeError('half written')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = PluginRegistry()
    registry.discover()
    assert [broken.entry_point for broken in registry.broken] == ["faulty"]
    monkeypatch.setenv("KEEPFAST_STRICT_PLUGINS", "1")
    with pytest.raises(keepfast.BrokenPlugin, match=r"`faulty` of keepfast-faulty 0\.3 .*half written"):
        PluginRegistry().discover()


def test_a_plugin_installed_twice_is_loaded_once(tmp_path: Path) -> None:
    """A distribution that two directories of sys.path have does not conflict with itself."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        install(tmp_path / name, "working", WORKING)
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'b')!r})\n"
    told = ask(tmp_path / "a", "print", first=program)
    assert told["print"] == "<class 'working_plugin.PrintWriter'>"
    assert told["broken"] == []


def test_a_distribution_without_metadata_hurts_nobody(tmp_path: Path) -> None:
    """An uninstall that was interrupted leaves such a thing behind."""
    install(tmp_path, "working", WORKING)
    install(tmp_path, "gone", "raise RuntimeError('at import')")
    (tmp_path / "keepfast_gone-0.3.dist-info" / "METADATA").unlink()
    told = ask(tmp_path, "print", "gone")
    assert told["print"] == "<class 'working_plugin.PrintWriter'>"
    assert told["gone"].startswith("BrokenPlugin: plugin `gone` of ")


def test_listing_plugins_imports_no_framework(tmp_path: Path) -> None:
    """Asking for names loads neither a framework nor a writer's library."""
    assert ask(tmp_path, "unheard of", "tensorboard")["loaded"] == []


def test_two_installed_plugins_with_one_name_conflict(tmp_path: Path) -> None:
    """Both distributions are named; everything else works."""
    install(tmp_path, "first", WORKING)
    install(tmp_path, "second", WORKING)
    told = ask(tmp_path, "print", "jsonl")
    assert told["print"].startswith("PluginConflict: the writer `print` is claimed by keepfast-")
    assert "keepfast-first 0.3" in told["print"]
    assert "keepfast-second 0.3" in told["print"]
    assert told["jsonl"] == "lazy('keepfast_writers.jsonl:JsonlWriter')"
