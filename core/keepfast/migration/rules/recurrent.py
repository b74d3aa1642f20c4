"""The gates of recurrent cells: stacked in PyTorch and in some cells of Flax, apart in the others.

PyTorch adds two biases to each gate, of which Flax keeps the sum: one way there is one answer, back there are many.
(``torch.nn.GRU``, ``torch.nn.LSTM``, ``torch.nn.RNN``; ``flax/linen/recurrent.py``, ``flax/nnx/nn/recurrent.py``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Made = tuple[dict[str, Array], list[str]]

_BACK = "PyTorch has two biases for each gate where Flax has their sum: which part belongs to which is not known"


@final
@dataclass(frozen=True)
class Gates:
    """One kind of cell.

    Attributes:
        count: how many gates there are.
        inputs: what Flax calls the part of each gate that is for the input, in PyTorch's order of gates.
        hidden: the same for the hidden state.
        biased: which of the parts that stand apart have the bias, ``inputs`` or ``hidden``.
        split: the gates whose two biases do not add up, since the hidden part is multiplied first.
    """

    count: int
    inputs: Sequence[str]
    hidden: Sequence[str]
    biased: str
    split: Sequence[int] = ()

    def reads(self, torch: bool, entries: Arrays) -> bool:
        """Say whether entries are those of such a cell."""
        if torch:
            inputs, hidden = entries.get("weight_ih"), entries.get("weight_hh")
            return self._stacks(inputs, hidden, axis=0) and set(entries) <= {
                "weight_ih",
                "weight_hh",
                "bias_ih",
                "bias_hh",
            }
        if "dense_i.kernel" in entries:
            return self._stacks(entries["dense_i.kernel"], entries.get("dense_h.kernel"), axis=1)
        names = {name.rpartition(".")[0].rstrip("_") for name in entries}
        return names == {*self.inputs, *self.hidden}

    def _stacks(self, inputs: Array | None, hidden: Array | None, axis: int) -> bool:
        if inputs is None or hidden is None or inputs.ndim != 2 or hidden.ndim != 2:
            return False
        return bool(inputs.shape[axis] == hidden.shape[axis] == self.count * hidden.shape[1 - axis])

    def stacked(self, entries: Arrays) -> dict[str, Array]:
        """Return Flax's entries as PyTorch stacks them, its biases where it has them and zeros elsewhere."""
        found: dict[str, Array] = {}
        for part, names in (("ih", self.inputs), ("hh", self.hidden)):
            dense = f"dense_{part[0]}"
            if f"{dense}.kernel" in entries:
                found[f"weight_{part}"] = entries[f"{dense}.kernel"].T
                bias = entries.get(f"{dense}.bias")
            else:
                gates = [_of(entries, name) for name in names]
                found[f"weight_{part}"] = np.concatenate([gate["kernel"].T for gate in gates])
                size = gates[0]["kernel"].shape[1]
                zeros = np.zeros(size, gates[0]["kernel"].dtype)
                has = any("bias" in gate for gate in gates)
                bias = np.concatenate([gate.get("bias", zeros) for gate in gates]) if has else None
            if bias is not None:
                found[f"bias_{part}"] = bias
        return found

    def to_torch(self, canonical: Arrays, own: Arrays) -> Made:
        """Return the canonical form as PyTorch's entries; a bias that Flax does not have is zero."""
        biases = {name: array for name, array in canonical.items() if name.startswith("bias")}
        places = [name for name in own if name.startswith("bias")]
        if own and not places and any(map(np.any, biases.values())):
            raise ValueError("it has a bias, and the module has none")
        found = {name: array for name, array in canonical.items() if name not in biases}
        for name in places or biases:
            found[name] = biases[name] if name in biases else np.zeros_like(canonical["weight_ih"][:, 0])
        return found, [f"{_BACK}; what is not known apart is in one of them, and the other is zero"] if places else []

    def to_flax(self, canonical: Arrays, own: Arrays) -> Made:
        """Return the canonical form as Flax's entries, the two biases summed where it keeps one.

        Raises:
            ValueError: if a bias has no place there.
        """
        zeros = np.zeros(canonical["weight_ih"].shape[0], canonical["weight_ih"].dtype)
        inputs, hidden = canonical.get("bias_ih", zeros), canonical.get("bias_hh", zeros)
        found = self._dense(canonical, inputs, hidden, own) if self._is_dense(own) else None
        found = self._apart(canonical, inputs, hidden, own) if found is None else found
        summed = np.any(inputs) and np.any(hidden)
        return found, [f"two biases for each gate became one; {_BACK} on the way back"] if summed else []

    @staticmethod
    def _is_dense(own: Arrays) -> bool:
        return "dense_i.kernel" in own

    def _dense(self, canonical: Arrays, inputs: Array, hidden: Array, own: Arrays) -> dict[str, Array]:
        found = {"dense_i.kernel": canonical["weight_ih"].T, "dense_h.kernel": canonical["weight_hh"].T}
        one = [name for name in ("dense_i.bias", "dense_h.bias") if name in own]
        if len(one) == 2:
            return found | {"dense_i.bias": inputs, "dense_h.bias": hidden}
        if one == ["dense_h.bias"]:
            return found | {"dense_h.bias": inputs + hidden}
        for gate in self.split:
            if np.any(np.split(hidden, self.count)[gate]):
                raise ValueError(
                    f"its hidden bias of the gate `{self.hidden[gate]}` is not zero, and this cell has no place for it"
                )
        if not one and np.any(inputs + hidden):
            raise ValueError("it has a bias, and the module has none")
        return found | ({"dense_i.bias": inputs + hidden} if one else {})

    def _apart(self, canonical: Arrays, inputs: Array, hidden: Array, own: Arrays) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for part, names in (("ih", self.inputs), ("hh", self.hidden)):
            for name, weight in zip(names, np.split(canonical[f"weight_{part}"], self.count), strict=True):
                found[f"{_spelled(own, name)}.kernel"] = weight.T
        names = self.inputs if self.biased == "inputs" else self.hidden
        for gate, (one, other) in enumerate(
            zip(np.split(inputs, self.count), np.split(hidden, self.count), strict=True)
        ):
            if gate in self.split:
                found[f"{_spelled(own, self.inputs[gate])}.bias"] = one
                found[f"{_spelled(own, self.hidden[gate])}.bias"] = other
            else:
                found[f"{_spelled(own, names[gate])}.bias"] = one + other
        if own and any(np.any(found[name]) for name in found if name not in own):
            raise ValueError("it has a bias for which the module has no place")
        return {name: array for name, array in found.items() if not own or name in own}


def _of(entries: Arrays, gate: str) -> dict[str, Array]:
    """Return the entries of one gate; nnx writes an underscore behind a name that Python does not take."""
    return {
        name.rpartition(".")[2]: array for name, array in entries.items() if name.rpartition(".")[0].rstrip("_") == gate
    }


def _spelled(own: Arrays, gate: str) -> str:
    return f"{gate}_" if f"{gate}_.kernel" in own else gate


RECURRENT = {
    "GRU": Gates(3, ("ir", "iz", "in"), ("hr", "hz", "hn"), "inputs", split=(2,)),
    "LSTM": Gates(4, ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho"), "hidden"),
    "RNN": Gates(1, ("i",), ("h",), "inputs"),
}
"""The kinds, in PyTorch's order of gates."""
