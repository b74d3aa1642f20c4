"""What a layer is for, as the names on its path tell: policy or critic, which of several, a target network or not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

from keepfast.migration.layers import Layer

Base = Literal["policy", "critic", "observations", "values", "privileged observations"]

_POLICY = frozenset({"policy", "actor", "pi", "action", "actions", "mu"})
_CRITIC = frozenset(
    {"value", "values", "critic", "vf", "v", "q", "qf", "qnet", "qvalue", "baseline", "vfunc", "critics"}
)
_STATISTICS = re.compile(
    r"(running_mean_std|mean_std|rms|normali[sz]er|preprocessor|scaler|vecnormalize)", re.IGNORECASE
)
_RETURNS = re.compile(r"(^|[._])(ret|return|returns|value|values|reward|rewards|critic)([._]|$)", re.IGNORECASE)
_OBSERVED = frozenset({"obs", "state", "observation", "observations", "states"})
_PRIVILEGED = frozenset({"critic", "privileged"})
_TARGET = frozenset({"target", "targ", "old", "ema", "lagged", "targets"})
_SAME = {
    **dict.fromkeys(("mu", "mean", "loc", "action_mean"), "mean"),
    **dict.fromkeys(("std", "sigma", "stddev", "logstd"), "std"),
    **dict.fromkeys(("alpha", "ent", "entropy", "temperature"), "entropy"),
    **dict.fromkeys(("value", "values", "v", "vf", "critic", "q", "qf", "baseline"), "critic"),
    **dict.fromkeys(("policy", "actor", "pi", "actions"), "policy"),
}
"""Words that mean one thing, by that thing."""

_LAST = frozenset({"out", "output", "outputs", "final", "last"})
_GENERAL = frozenset(
    [
        "net",
        "network",
        "module",
        "layer",
        "layers",
        "fc",
        "linear",
        "dense",
        "mlp",
        "model",
        "parameter",
        "param",
        "coef",
        "coefficient",
        "log",
        "hidden",
        "body",
        "sequential",
        "head",
        "features",
        "extractor",
        "a",
        "c",
    ]
)
"""Words that tell nothing of what a layer is for."""

MEANS, DEVIATION = "mean", "std"


@final
@dataclass(frozen=True)
class Role:
    """What a layer is for.

    Attributes:
        base: of the policy or of a critic, or statistics of observations or of values; None where nothing tells.
        target: whether it is of a network that follows another.
        number: which of several critics, counted from 0; None where there is one.
    """

    base: Base | None = None
    target: bool = False
    number: int | None = None

    def __str__(self) -> str:
        words = ["target" if self.target else "", self.base or "shared"]
        return " ".join(word for word in (*words, "" if self.number is None else str(self.number)) if word)


def words(text: str) -> list[str]:
    """Return the words of a path, numbers apart: ``qf1_target.fc1`` is qf, 1, target, fc, 1."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return [word.lower() for word in re.findall(r"[A-Za-z]+|\d+", spaced)]


def role_of(layer: Layer) -> Role:
    """Return what a layer is for, as its own path tells, and else the name of its module."""
    if any(rule.kind == "Normaliser" for rule in layer.rules) or _STATISTICS.search(layer.name):
        told = set(words(layer.name))
        returns = bool(_RETURNS.search(layer.name)) and _OBSERVED.isdisjoint(told)
        privileged = not _PRIVILEGED.isdisjoint(told)
        return Role("values" if returns else "privileged observations" if privileged else "observations")
    target = not _TARGET.isdisjoint(words(layer.name))
    for part in reversed(layer.path.split(".")):
        if (base := _base(part)) is not None:
            return Role(base, target, _number(layer, part) if base == "critic" else None)
    base = _base(layer.module) or _base(layer.owner)
    return Role(base, target, _number(layer, layer.module) if base == "critic" else None)


def _base(part: str) -> Base | None:
    """Return whether a part of a path is of the policy or a critic; one that is of both tells nothing."""
    found = set(words(part))
    is_policy, is_critic = not _POLICY.isdisjoint(found), not _CRITIC.isdisjoint(found)
    if is_policy is is_critic:
        return None
    return "policy" if is_policy else "critic"


def _number(layer: Layer, part: str) -> int | None:
    """Return the number that stands behind the critic's name: of ``qf1``, ``critic_2`` and ``q_networks.0``."""
    found = [int(word) for word in words(part) if word.isdecimal()]
    parts = layer.name.split(".")
    following = parts[parts.index(part) + 1 :] if part in parts else []
    if not found and len(following) > 2 and following[0].isdecimal() and part.endswith("s"):
        return int(following[0])
    return found[-1] if found else None


def ranked(roles: Iterable[Role]) -> dict[Role, Role]:
    """Return each role with its number as a rank, so that the first of several is 0 whatever it is called."""
    known = list(dict.fromkeys(roles))
    found = {}
    for role in known:
        numbers = sorted({each.number for each in known if each.number is not None and _alike(each, role)})
        number = None if role.number is None or len(numbers) < 2 else numbers.index(role.number)
        found[role] = Role(role.base, role.target, number)
    return found


def _alike(one: Role, other: Role) -> bool:
    return one.base == other.base and one.target == other.target


def meanings(layer: Layer) -> set[str]:
    """Return what the words on a layer's path mean, without those that tell nothing."""
    found = {_SAME.get(word, word) for word in words(layer.name) if not word.isdecimal()}
    alone = any(rule.kind == "Parameter" for rule in layer.rules)
    return (found - _GENERAL) | ({f"={layer.path.rpartition('.')[2]}"} if alone else set())


_OF_OPTIMIZERS = frozenset({"optimizer", "optimizers", "opt", "optim", "state"})


def told_by(name: str) -> set[str]:
    """Return what the words of the name of an optimizer, or of networks, mean, without those that tell nothing."""
    found = {_SAME.get(word, word) for word in words(name) if not word.isdecimal()}
    return found - _GENERAL - _OF_OPTIMIZERS


def is_last(layer: Layer) -> bool:
    """Say whether the name of a layer tells that it is the last of a network."""
    return not _LAST.isdisjoint(words(layer.path.rpartition(".")[2]))


def is_logarithm(layer: Layer) -> bool | None:
    """Say whether a lone parameter is the logarithm of a deviation, or the deviation itself; None for anything else."""
    told = words(layer.path or layer.module)
    if DEVIATION not in {_SAME.get(word, word) for word in told}:
        return None
    return "log" in told or "logstd" in told
