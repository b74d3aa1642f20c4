"""Schedulers of rates, which are set to the steps that the optimizer they belong to has made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keepfast.migration.optimizers.carrying import Carried
from keepfast.migration.optimizers.states import is_scheduler, is_torch
from keepfast.migration.report import MigratedOptimizer
from keepfast.modules.registered import RegisteredModule
from keepfast.tree import Tree


def schedulers(leaves: Sequence[RegisteredModule]) -> list[RegisteredModule]:
    """Return the schedulers among modules."""
    return [leaf for leaf in leaves if leaf.is_open and not leaf.is_memory and is_scheduler(leaf.capture())]


def scheduled(
    leaves: Sequence[RegisteredModule], states: Sequence[Carried]
) -> tuple[list[Carried], dict[str, Tree], list[MigratedOptimizer]]:
    """Return what becomes of optimizers with the rates that their schedulers have, the states of these, and a report.

    Args:
        leaves: the schedulers.
        states: what becomes of the optimizers.
    """
    made, trees, entries = list(states), dict[str, Tree](), list[MigratedOptimizer]()
    for leaf in leaves:
        number = _of(leaf, states)
        steps = None if number is None else states[number].entry.steps
        found = None if steps is None else leaf.backend.scheduled(leaf.value, steps)
        if number is None or steps is None or found is None:
            why = "its optimizer keeps its own state" if number is None else "the steps alone do not tell its rates"
            why = "the file does not tell the steps of its optimizer" if number is not None and steps is None else why
            entries.append(MigratedOptimizer(leaf.name, "left", why=why))
            continue
        trees[leaf.name], rates = found
        made[number] = replace(made[number], tree=_with_rates(made[number].tree, rates))
        entries.append(MigratedOptimizer(leaf.name, "migrated", made[number].entry.sources, "scheduler", steps))
    return made, trees, entries


def _of(leaf: RegisteredModule, states: Sequence[Carried]) -> int | None:
    """Return which of the optimizers that get another state a scheduler is of."""
    names = [other.name for other in leaf.beside if other.value is getattr(leaf.value, "optimizer", leaf)]
    for number, each in enumerate(states):
        if each.place.module in names and each.tree is not None and is_torch(each.tree):
            return number
    return None


def _with_rates(tree: Tree, rates: Sequence[float]) -> Tree:
    groups = [{**group, "lr": rate} for group, rate in zip(tree["param_groups"], rates, strict=True)]
    return {**tree, "param_groups": groups}
