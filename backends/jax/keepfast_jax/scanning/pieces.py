"""One compiled piece of a loop: its steps between two visits to the host, with what they track added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, final

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from keepfast import Interval, InvalidValue
from keepfast_jax.scanning.episodes import (
    Finished,
    Rows,
    Running,
    add_step,
    episode_aggregate,
    fold,
    no_rows,
    no_running,
    none_finished,
)
from keepfast_jax.scanning.sums import ROWS, Sums, add_rows, aggregates, no_sums
from keepfast_jax.scanning.tracked import Layout, Transitions

_ELEMENTS = 65_536
"""How many rewards the rows hold at most that are not folded yet."""

LARGEST_PIECE = 2**30
"""How many rewards of each environment, in all, a piece adds up at most, so that their number fits."""

_T = TypeVar("_T")


@final
class State(NamedTuple):
    """What goes from one piece to the next.

    Attributes:
        carry: the user's.
        running: the episodes under way, or None without transitions.
        ys: what the user's function returned at each step so far, stacked; rows of steps to come are zeros.
    """

    carry: Any
    running: Running | None
    ys: Any


@final
class Totals(NamedTuple):
    """What the steps of a piece tracked."""

    values: Sums
    finished: Finished | None


@final
@dataclass(frozen=True)
class Program:
    """The user's function, traced, with what there is to know of a loop of it.

    Attributes:
        step: returns, from a carry and an x, the next carry, a y and what is tracked.
        outputs: the shapes and dtypes of these.
        closed_over: the arrays that the function closes over, traced ones among them.
        layout: what is tracked.
        rows: how many steps are kept before they are folded.
        resets: whether environments reset in the step after an episode's end.
        masked: whether there are rows that are no transitions.
    """

    step: Callable[[Any, Any], tuple[Any, Any, Any]]
    outputs: tuple[Any, Any, Any]
    closed_over: tuple[Any, ...]
    layout: Layout
    rows: int
    resets: bool
    masked: bool

    @classmethod
    def of(cls, f: Callable[[Any, Any], Any], carry: Any, x: Any, *, resets: bool) -> Program:
        """Trace a function, once.

        Args:
            f: the user's, as `keepfast_jax.scan` takes it.
            carry: a carry.
            x: one of the xs.
            resets: whether environments reset in the step after an episode's end.

        Raises:
            InvalidValue: if it does not return what `keepfast_jax.scan` needs; names what is wrong.
            ShapeMismatch: if its transitions are of different numbers of environments.
        """
        checked = _Checked(f)
        closed, outputs = jax.make_jaxpr(checked, return_shape=True)(carry, x)
        _check_carry(outputs, carry)
        structure, call = jax.tree.structure(outputs), jaxpr_as_fun(closed)

        def step(carry: Any, x: Any) -> tuple[Any, Any, Any]:
            found = map(_as_array, call(*jax.tree.leaves((carry, x))), jax.tree.leaves(outputs))
            return jax.tree.unflatten(structure, found)  # type: ignore[no-any-return]

        layout = checked.layout
        assert layout is not None, "set as it was traced"  # noqa: S101
        transitions = next((each for each in outputs[2].values() if isinstance(each, Transitions)), None)
        rows = min(ROWS, max(_ELEMENTS // (layout.num_envs or 1), 1))
        masked = resets or (transitions is not None and transitions.valid is not None)
        return cls(step, outputs, tuple(closed.consts), layout, rows, resets, masked)

    def start(self, carry: Any, length: int) -> State:
        """Return the state before the first step, its carry of the types that the function returns."""
        own = jax.tree.map(_typed, carry, self.outputs[0])
        layout = self.layout
        running = None if layout.num_envs is None else no_running(layout.num_envs, layout.dtype)
        ys = jax.tree.map(lambda y: _zeros((length, *y.shape), y.dtype), self.outputs[1])
        return State(own, everywhere(running), everywhere(ys))

    @cached_property
    def compiled(self) -> Callable[..., tuple[State, Totals]]:
        """Return `advance`, compiled; it consumes the state."""
        return jax.jit(self.advance, donate_argnums=0)

    @property
    def longest(self) -> int:
        """Return how many steps a piece has at most."""
        return max(LARGEST_PIECE // (self.layout.num_envs or 1), 1)

    def nothing(self) -> Totals:
        """Return what no steps track."""
        finished = None if self.layout.num_envs is None else none_finished(self.layout.dtype)
        return Totals(no_sums(len(self.layout.tags), self.layout.dtype), finished)

    def advance(self, state: State, first: Any, last: Any, xs: Any) -> tuple[State, Totals]:
        """Take the steps from a first one on up to, and without, a last one."""
        going = jnp.int32(first), state, everywhere(self.nothing())
        _, state, totals = jax.lax.while_loop(
            lambda going: going[0] < last, lambda going: self._block(*going, last, xs), going
        )
        return state, totals

    def _block(self, first: Any, state: State, totals: Totals, last: Any, xs: Any) -> tuple[Any, State, Totals]:
        """Take the steps of one filling of the rows, and fold them."""
        end = jnp.minimum(first + self.rows, last).astype(jnp.int32)
        layout = self.layout
        numbers = everywhere(jnp.zeros((self.rows, len(layout.tags)), layout.dtype))
        rows = None
        if layout.num_envs is not None:
            rows = everywhere(no_rows(self.rows, layout.num_envs, layout.dtype, masked=self.masked))

        def step(position: Any, going: tuple[State, Any, Rows | None]) -> tuple[State, Any, Rows | None]:
            return self._step(position, position - first, *going, xs)

        state, numbers, rows = jax.lax.fori_loop(first, end, step, (state, numbers, rows))
        return end, state, self._fold(totals, numbers, rows, end - first)

    def _step(
        self, position: Any, row: Any, state: State, numbers: Any, rows: Rows | None, xs: Any
    ) -> tuple[State, Any, Rows | None]:
        carry, y, tracked = self.step(state.carry, jax.tree.map(lambda x: _at(x, position), xs))
        values, transitions = self.layout.part(tracked)
        ys = jax.tree.map(lambda kept, new: jax.lax.dynamic_update_index_in_dim(kept, new, position, 0), state.ys, y)
        running = state.running
        if values.size:
            numbers = jax.lax.dynamic_update_index_in_dim(numbers, values, row, 0)
        if running is not None and rows is not None and transitions is not None:
            running, rows = add_step(running, rows, row, transitions, resets=self.resets)
        return State(carry, everywhere(running), ys), numbers, rows

    def _fold(self, totals: Totals, numbers: Any, rows: Rows | None, count: Any) -> Totals:
        values, finished = totals
        if numbers.size:
            there = jnp.broadcast_to(jnp.arange(self.rows)[:, None] < count, numbers.shape)
            values = add_rows(values, numbers, there)
        if finished is not None and rows is not None:
            finished = fold(finished, rows, count)
        return Totals(values, finished)

    def interval(self, totals: Totals) -> Interval:
        """Return, on the host, what a piece tracked."""
        values = dict(zip(self.layout.tags, aggregates(totals.values), strict=True))
        return Interval(values, None if totals.finished is None else episode_aggregate(totals.finished))


_OF_BRANCHES = ("cond branch outputs must have", "switch branch outputs must have")
"""How JAX's error begins where the branches of a conditional return different things."""


@final
class _Checked:
    """A user's function, whose result is checked while it is traced.

    Attributes:
        layout: what it tracks, once it was traced.
    """

    def __init__(self, f: Callable[[Any, Any], Any]) -> None:
        self._f = f
        self.layout: Layout | None = None

    def _called(self, carry: Any, x: Any) -> Any:
        try:
            return self._f(carry, x)
        except TypeError as error:
            if not str(error).startswith(_OF_BRANCHES):
                raise
            raise InvalidValue(
                "the branches of a conditional in the function given to `keepfast_jax.scan` return different things: "
                f"{_told_of_branches(error)} If these are tags: track the same ones in each branch"
            ) from error

    def __call__(self, carry: Any, x: Any) -> tuple[Any, Any, Any]:
        returned = self._called(carry, x)
        if not isinstance(returned, tuple) or len(returned) not in (2, 3):
            kind = type(returned).__qualname__
            given = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else f"a {kind}"
            raise InvalidValue(
                f"the function given to `keepfast_jax.scan` returned {given}; allowed: (carry, tracked), or "
                "(carry, y, tracked)"
            )
        following, *y, tracked = returned
        # Python's numbers have a dtype once they are JAX's; what is none of them is refused by name.
        tracked = _as_arrays(tracked) if isinstance(tracked, Mapping) else tracked
        self.layout = Layout.of(tracked)
        return following, (y[0] if y else None), dict(tracked)


def _told_of_branches(error: TypeError) -> str:
    """Return what JAX tells of the branches of a conditional that return different things, in short."""
    told = [line for line in str(error).split("\n\n") if "output" in line and not line.startswith(_OF_BRANCHES)]
    return " ".join(" ".join(told).split()) or str(error).partition("\n")[0]


def _check_carry(outputs: Any, carry: Any) -> None:
    """Have ``jax.lax.scan`` itself tell of a carry that does not stay what it is."""
    following = outputs[0]
    kinds = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (carry, following)]
    structures: list[Any] = [jax.tree.structure(tree) for tree in (carry, following)]
    if structures[0] == structures[1] and kinds[0] == kinds[1]:
        return

    def next_carry(_carry: Any, _x: None) -> tuple[Any, None]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), following), None

    jax.eval_shape(lambda carry: jax.lax.scan(next_carry, carry, None, length=1), carry)
    raise InvalidValue("the carry that the function given to `keepfast_jax.scan` returns is of other types than `init`")


def _as_arrays(tracked: Mapping[Any, Any]) -> dict[Any, Any]:
    def array(value: Any) -> Any:
        return jnp.asarray(value) if isinstance(value, bool | int | float | complex) else value

    return {
        tag: Transitions(*map(array, value)) if isinstance(value, Transitions) else array(value)
        for tag, value in tracked.items()
    }


def _as_array(found: Any, output: Any) -> Any:
    """Return what a traced function gave: what does not depend on its arguments comes as a number of Python."""
    array = jnp.asarray(found)
    return array if array.dtype == output.dtype else array.astype(output.dtype)


def _typed(own: Any, following: Any) -> Any:
    """Return a part of the first carry as an array, of weak type no more where the next one is not."""
    array = jnp.asarray(own)
    if array.dtype == following.dtype and getattr(array, "weak_type", False) and not following.weak_type:
        return jax.lax.convert_element_type(array, following.dtype)
    return array


def _zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jnp.zeros(shape, dtype)
    impls: list[Any] = []
    jax.eval_shape(lambda key: impls.append(jax.random.key_impl(key)), abstract((), dtype))
    return jnp.broadcast_to(jax.random.key(0, impl=impls[0]), shape)


abstract: Callable[..., Any] = jax.ShapeDtypeStruct
"""Makes, of a shape and a dtype, what stands for an array of them."""


def _at(x: Any, position: Any) -> Any:
    return jax.lax.dynamic_index_in_dim(x, position, 0, keepdims=False)


def everywhere(tree: _T) -> _T:
    """Return what begins alike on every device of a ``shard_map`` as what may go apart there."""
    names = tuple(jax.sharding.get_abstract_mesh().manual_axes)
    if not names:
        return tree

    def spread(leaf: Any) -> Any:
        missing = tuple(name for name in names if name not in varying(leaf))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    spread_out: _T = jax.tree.map(spread, tree)
    return spread_out


def varying(array: Any) -> frozenset[str]:
    """Return the axes of a ``shard_map`` along which an array is not the same on every device."""
    kind: Any = jax.typeof(array)
    of_kind = getattr(kind, "manual_axis_type", None)  # as JAX calls it from 0.9 on
    return frozenset(kind.vma if of_kind is None else of_kind.varying)
