"""The layout that Flax had for named tuples, which it reads to this day: names, fields and values apart.

``{"name": "Moments", "fields": {"0": "mean"}, "values": {"0": ...}}`` stands for ``{"mean": ...}``
(``flax/serialization.py``, `_restore_namedtuple`).
"""

from __future__ import annotations

from collections.abc import Mapping

from keepfast.tree import Tree, items, rebuild

_KEYS = {"name", "fields", "values"}


def with_today_s_tuples(found: Tree, own: Tree) -> Tree:
    """Return a file's tree with its older named tuples as those of today.

    Args:
        found: what the file holds.
        own: what the module holds, for a module may have these very names for its own.
    """
    children = items(found)
    if children is None:
        return found
    below = {str(key): child for key, child in items(own) or ()}
    if isinstance(found, Mapping) and found.keys() == _KEYS != below.keys() and _is_older(**found):
        named = {found["fields"][at]: child for at, child in found["values"].items()}
        return {name: with_today_s_tuples(child, below.get(name)) for name, child in named.items()}
    return rebuild(found, [with_today_s_tuples(child, below.get(str(key))) for key, child in children])


def _is_older(name: Tree, fields: Tree, values: Tree) -> bool:
    if not (isinstance(name, str) and isinstance(fields, Mapping) and isinstance(values, Mapping)):
        return False
    numbers, names = {str(number) for number in range(len(fields))}, list(fields.values())
    is_named = all(isinstance(each, str) for each in names) and len(set(names)) == len(names)
    return is_named and fields.keys() == values.keys() == numbers
