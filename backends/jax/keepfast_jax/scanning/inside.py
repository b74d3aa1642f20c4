"""A loop inside jit: nested, with one call of the host for each interval, and one for all seeds under vmap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from keepfast import Interval, InvalidValue, LoadMismatch, UsageError
from keepfast_jax.scanning.carry import Position, Shape, raw_leaves, with_keys
from keepfast_jax.scanning.pieces import Program, State, Totals, abstract
from keepfast_jax.scanning.session import Session, Visit, next_visit
from keepfast_jax.scanning.shards import Shards

_FLAG: Any = jax.eval_shape(lambda: jnp.int32(0))
_LARGEST = 2**31 - 1

Axes = tuple[int, ...]

_optimization_barrier: Callable[..., Any] = jax.lax.optimization_barrier


@jax.custom_jvp
def barrier(leaf: Any) -> Any:
    """Return a leaf of the first state, of which XLA knows nothing, and no derivative is taken."""
    return _optimization_barrier(leaf)


@barrier.defjvp
def _(_primals: Any, _tangents: Any) -> Any:
    raise InvalidValue(
        "a derivative is taken through `keepfast_jax.scan`, whose calls of the host have none; take it within the "
        "function that is given to it, or of a `jax.lax.scan`"
    )


@final
class Inside:
    """One loop inside a compiled program, and what it calls the host for.

    Args:
        program: the user's function.
        session: the experiment's loops.
        length: how many steps there are.
    """

    def __init__(self, program: Program, session: Session, length: int) -> None:
        self._program, self._session, self._length = program, session, length
        self._intervals = tuple(min(interval, _LARGEST // 2) for interval in session.intervals())
        self._resumes = session.pending is not None
        self._visit = Visit(0, length, 0, 0, 0)
        self._shards = Shards()

    def run(self, init: Any, xs: Any) -> tuple[Any, Any]:
        """Run the loop; to be called while a program is traced.

        Raises:
            LoadMismatch: if the checkpoint that the run goes on from does not fit.
        """
        # What XLA knows of the first carry must not shape the code of the steps: after a resume it knows nothing.
        state: State = jax.tree.map(barrier, self._program.start(init, self._length))
        self._state, self._totals = state, jax.eval_shape(self._program.nothing)
        self._shape = Shape.of(self._shards.typed(state))
        self._session.restore_while_traced(self._empty)
        asked = (_FLAG,) * (3 + len(self._intervals))
        first, restored, end, *offsets = self._shards.first_alone(lambda: io_callback(self._begin, asked), asked)
        around = init, xs, self._program.closed_over
        if self._resumes:
            state = self._restored(state, restored, around)
        state = self._with_running(state, restored, around)

        def body(going: tuple[Any, State, Any]) -> tuple[Any, State, Any]:
            position, state, _ = going
            last = jnp.minimum(jnp.where(position < end, end, self._length), position + self._program.longest)
            following = next_visit(position, last, self._intervals, offsets, jnp.minimum)
            state, totals = self._program.advance(state, position, following, xs)
            return following, state, self._told(following, state, totals)

        going = first, state, jnp.int32(0)
        _, state, _ = jax.lax.while_loop(lambda going: (going[0] < self._length) & (going[2] == 0), body, going)
        return state.carry, state.ys

    def _told(self, step: Any, state: State, totals: Totals) -> Any:
        """Return whether the loop is to end, after the host was told of a step."""
        track, store = (_for_all_seeds(call) for call in (self._track, self._store))
        totals_of_all = tuple(self._shards.of_all(jax.tree.leaves(totals)))
        (asked,) = self._shards.first_alone(lambda: (track(step, totals_of_all),), (_FLAG,))

        def stored() -> tuple[Any, ...]:
            state_of_all = tuple(self._shards.of_all(raw_leaves(state)))
            return self._shards.first_alone(lambda: (store(step, state_of_all),), (_FLAG,))

        (ended,) = _when(asked & 1, stored, (jnp.int32(0),))
        return (asked >> 1) | ended

    def _restored(self, state: State, restored: Any, around: Any) -> State:
        """Return the state that a checkpoint has, where the loop goes on from one."""
        raw = raw_leaves(state)
        fetch = _for_each_seed(self._fetch, self._shape.leaves)
        anchors = tuple(raw_leaves((state, around)))
        found = _when(restored, lambda: self._shards.own(fetch(restored, anchors), raw), raw)
        whole: State = with_keys(state, found)
        return whole

    def _with_running(self, state: State, begun: Any, around: Any) -> State:
        """Return the state with the episodes that are under way, from the loop before or the checkpoint."""
        if state.running is None:
            return state
        shape = Shape.of(self._shards.typed(state.running))
        fetch = _for_each_seed(lambda axes: self._session.running(axes, shape), shape.leaves)
        fetched = fetch(begun, tuple(raw_leaves((state, around))))
        found = self._shards.own(fetched, jax.tree.leaves(state.running))
        return state._replace(running=jax.tree.unflatten(shape.structure, found))

    def _begin(self) -> tuple[Any, ...]:
        session, length = self._session, self._length
        numbers = [length] * (3 + len(self._intervals))  # where the run ends here: nothing is left to do
        with session.loop.call():
            session.look_for_resume()
            if session.pending is not None and not self._resumes:
                raise UsageError(
                    "the run was resumed after this function was compiled; call `Experiment.resume` before that, or "
                    "compile it anew"
                )
            self._visit = visit = session.begin(length, self._empty)
            offsets = [visit.completed(0) % interval for interval in self._intervals]
            numbers = [visit.first, int(visit.restored is not None), session.end(visit), *offsets]
        return tuple(np.int32(number) for number in numbers)

    def _empty(self, position: Position) -> State:
        """Return a state on the host for a checkpoint to be put in."""
        typed = self._shards.typed(self._state)
        ys = jax.tree.map(lambda y: abstract((position.length, *y.shape[1:]), y.dtype), self._state.ys)
        empty: State = Shape.of(typed._replace(ys=self._shards.typed(ys))).empty(position.axes)
        return empty

    def _fetch(self, axes: Axes) -> list[np.ndarray[Any, Any]]:
        """Return the leaves that a checkpoint has."""
        position, visit = self._visit.restored, self._visit
        assert position is not None, "asked for where there is one"  # noqa: S101
        if position.axes != axes:
            raise LoadMismatch(
                f"the checkpoint holds {_seeds(position.axes)}, and the loop that goes on from it has {_seeds(axes)}"
            )
        state = self._session.kept.taken()
        axis = len(axes) + self._shards.axes
        ys = jax.tree.map(lambda y: fitted(y, self._length if not visit.before else 0, self._length, axis), state.ys)
        return self._shape.loose(state._replace(ys=ys))

    def _track(self, axes: Axes, step: Any, leaves: Sequence[Any]) -> np.ndarray[Any, Any]:
        session, visit = self._session, self._visit
        layout, step = self._program.layout, int(step)
        with session.loop.call(ends=False) as ends:
            session.track(self._intervals_of(axes, leaves))
            if session.may_store(visit, step, layout.tags, episodes=layout.num_envs is not None):
                return np.array(1, np.int32)
            session.complete(visit, step)
        session.is_over |= ends()
        return np.array(2 * ends(), np.int32)

    def _intervals_of(self, axes: Axes, leaves: Sequence[Any]) -> list[list[Interval]]:
        """Return what was added up, by device and seed."""
        structure = jax.tree.structure(self._totals)
        size, shards = math.prod(axes), self._shards.size
        shapes = [leaf.shape for leaf in jax.tree.leaves(self._totals)]
        flat = [np.asarray(leaf).reshape(size, shards, *shape) for leaf, shape in zip(leaves, shapes, strict=True)]
        return [
            [
                self._program.interval(jax.tree.unflatten(structure, [leaf[seed, shard] for leaf in flat]))
                for seed in range(size)
            ]
            for shard in range(shards)
        ]

    def _store(self, axes: Axes, step: Any, leaves: Sequence[Any]) -> np.ndarray[Any, Any]:
        session, visit = self._session, self._visit
        own = [np.array(leaf) for leaf in leaves]  # what it was given is the program's own memory
        with session.loop.call() as ends:
            session.kept.put(session.experiment, self._shape.stored(own), visit.position(int(step), axes))
            session.complete(visit, int(step))
        session.is_over |= ends()
        return np.array(ends(), np.int32)


def fitted(ys: np.ndarray[Any, Any], kept: int, length: int, axis: int) -> np.ndarray[Any, Any]:
    """Return rows for as many steps, the first ones as they were kept, the others zeros."""
    before = np.moveaxis(ys, axis, 0)
    rows = np.zeros((length, *before.shape[1:]), ys.dtype)
    count = min(kept, len(before))
    rows[:count] = before[:count]
    return np.moveaxis(rows, 0, axis)


def _seeds(axes: Axes) -> str:
    return f"{' x '.join(map(str, axes))} seed(s)" if axes else "no axis of seeds"


def _for_all_seeds(host: Callable[[Axes, Any, Sequence[Any]], Any], axes: Axes = ()) -> Callable[[Any, Any], Any]:
    """Return a function that calls the host once for all seeds, however many axes of them there are.

    Args:
        host: takes the sizes of these axes, a step, and arrays which have them first; returns a flag.
        axes: those there are already.
    """

    @custom_vmap
    def call(step: Any, arrays: Any) -> Any:
        return io_callback(lambda step, *given: host(axes, step, given), _FLAG, step, *arrays)

    @call.def_vmap
    def _(size: int, batched: Any, step: Any, arrays: Any) -> tuple[Any, bool]:
        whole = tuple(_with_axis(array, size, there=there) for array, there in zip(arrays, batched[1], strict=True))
        return _for_all_seeds(host, (size, *axes))(step, whole), False

    function: Callable[[Any, Any], Any] = call
    return function


def _for_each_seed(
    host: Callable[[Axes], Sequence[Any]], results: Sequence[jax.ShapeDtypeStruct], axes: Axes = ()
) -> Callable[[Any, Any], list[Any]]:
    """Return a function that has the host give arrays to all seeds at once.

    Its arguments are a number that is known only once the host may be asked, and arrays of which one has the axis of
    the seeds, where there is one.

    Args:
        host: takes the sizes of the axes of the seeds, and returns arrays which have them first.
        results: what the arrays are for one seed.
        axes: those there are already.
    """
    shapes = [abstract((*axes, *result.shape), result.dtype) for result in results]

    @custom_vmap
    def call(after: Any, _anchors: Any) -> list[Any]:
        found: list[Any] = io_callback(lambda _after: list(host(axes)), shapes, after)
        return found

    @call.def_vmap
    def _(size: int, _batched: Any, after: Any, anchors: Any) -> tuple[list[Any], list[bool]]:
        return _for_each_seed(host, results, (size, *axes))(after, anchors), [True] * len(results)

    function: Callable[[Any, Any], list[Any]] = call
    return function


def _with_axis(array: Any, size: int, *, there: bool) -> Any:
    return array if there else jnp.broadcast_to(array, (size, *array.shape))


def _when(flag: Any, call: Callable[[], Any], otherwise: Any) -> Any:
    """Return what a function returns where a flag is 1, else something else; what it calls the host for may be vmapped.

    That is what ``jax.lax.cond`` cannot have.
    """
    going = jnp.int32(0), otherwise
    return jax.lax.while_loop(lambda going: going[0] < flag, lambda going: (going[0] + 1, call()), going)[1]
