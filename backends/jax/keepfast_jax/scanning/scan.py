"""`keepfast_jax.scan`: a loop as ``jax.lax.scan`` runs it, tracked, checkpointed and resumed."""

from __future__ import annotations

import importlib
import operator
import weakref
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from keepfast import Experiment, InvalidValue, ShapeMismatch
from keepfast._system.arguments.guarding import guarded
from keepfast.errors import as_given
from keepfast_jax.scanning.carry import Position, Shape, data_of, raw_leaves, with_keys
from keepfast_jax.scanning.episodes import Running
from keepfast_jax.scanning.inside import Inside, fitted
from keepfast_jax.scanning.pieces import Program, State
from keepfast_jax.scanning.session import Session, Visit, next_visit

_is_at_top: Callable[[], bool] = importlib.import_module("jax._src.core").trace_state_clean


def scan(
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    experiment: Experiment,
) -> tuple[Any, Any]:
    """Run a compiled loop whose steps are the timesteps of an experiment; ``jax.lax.scan`` with what is tracked beside.

    Outside of jit it runs compiled pieces between the experiment's intervals, and donates the carry from one to the
    next. Inside of it the host is called once an interval, under vmap once for all seeds. Either way the statistics are
    added up on the device, and the experiment writes and checkpoints as in any other loop. Its checkpoints hold the
    whole carry, as the module ``carry``.

    A run that is started again, in the directory it had, goes on where its last checkpoint was taken, and takes the
    steps that remain: `Experiment.resume` is called for it, where nobody did. Where somebody did, `length` may also be
    what remains.

    Args:
        f: takes a carry and an x, and returns ``(carry, tracked)`` or ``(carry, y, tracked)``. What is tracked is a
            dictionary of single numbers by tag, the same tags at each step; it may hold one
            `keepfast_jax.Transitions`.
        init: the first carry: any pytree of arrays, a TrainState or a module of flax.nnx among them. It is not donated.
        xs: what `f` gets at each step, stacked; None for nothing.
        length: how many steps there are, where `xs` does not tell.
        experiment: what tracks, writes and checkpoints; it must be open while the loop runs.

    Returns:
        The last carry, and the ys stacked, or None where `f` returns none. In a run that goes on, the ys of steps that
        an earlier process took are those that its checkpoint holds.

    Raises:
        InvalidValue: while it is traced, if `f` tracks what is no number, or other tags in another branch; names it.
        LoadMismatch: if the checkpoint to go on from holds another carry; lists every difference.
        KeyboardInterrupt: after saving, if Ctrl-C was pressed, at the next interval.
        SystemExit: after saving, if the process was told to end.

    Example::

        with keepfast.Experiment(cfg, name="PPO", timesteps=1_000_000) as experiment:
            carry, _ = keepfast_jax.scan(update, init, length=1_000_000, experiment=experiment)
    """
    xs, count = _taken(init, xs, length, experiment)
    session = Session.of(experiment)
    program = _program(f, init, xs, resets=experiment.autoreset == "next_step")
    if _is_at_top():
        return _Outside(program, session, count).run(init, xs)
    return Inside(program, session, count).run(init, xs)


@guarded
def _taken(init: Any, xs: Any, length: Any, experiment: object) -> tuple[Any, int]:
    """Check what a loop is given, and return the xs as arrays, and how many steps there are."""
    if not isinstance(experiment, Experiment):
        raise InvalidValue(f"`experiment` is {as_given(experiment)}; allowed: a keepfast.Experiment")
    count = _length(xs, length)
    jax.tree.map(jnp.asarray, init)
    for path, leaf in jax.tree_util.tree_leaves_with_path((init, xs)):
        where = jax.tree_util.keystr(path)
        if isinstance(leaf, jax.core.Tracer):
            jnp.copy(leaf)  # raises where its tracing has ended
        elif isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise InvalidValue(
                f"an array that a loop is given, at `{where}`, was deleted or donated; give a copy of it"
            )
    return jax.tree.map(jnp.asarray, xs), count


@final
class _Outside:
    """One loop outside jit: compiled pieces, with a visit to the experiment between two of them.

    Where a visit stores nothing, it is paid while the next piece is under way.
    """

    def __init__(self, program: Program, session: Session, length: int) -> None:
        self._program, self._session, self._length = program, session, length

    def run(self, init: Any, xs: Any) -> tuple[Any, Any]:
        """Run the loop.

        Raises:
            LoadMismatch: if the checkpoint that the run goes on from does not fit.
        """
        session, program = self._session, self._program
        state = _copied(program.start(init, self._length))
        self._shape = Shape.of(state)
        visit = session.begin(self._length, lambda position: self._empty(state, position))
        if visit.restored is not None:
            state = self._restored(state, visit)
        if state.running is not None:
            running = session.running((), Shape.of(state.running))
            state = state._replace(running=Running(*map(jnp.asarray, running)))
        position, end = visit.first, session.end(visit)
        intervals = session.intervals()
        offsets = [visit.completed(0) % interval for interval in intervals]
        untold: tuple[int, Any] | None = None
        while position < self._length:
            last = min(end if position < end else self._length, position + program.longest)
            following = next_visit(position, last, intervals, offsets, min)
            state, totals = program.compiled(state, np.int32(position), np.int32(following), xs)
            if untold is not None:  # while the device takes the steps
                with session.loop.without_end():
                    self._tell(visit, *untold)
            position, untold = following, (following, totals)
            if self._may_store(visit, position):
                self._keep(visit, position, state)
                self._tell(visit, *untold)
                untold = None
        if session.loop.stored_at != session.experiment.completed:  # else nothing is left to store
            self._keep(visit, position, _copied(state))
        return state.carry, state.ys

    def _may_store(self, visit: Visit, position: int) -> bool:
        layout = self._program.layout
        return self._session.may_store(visit, position, layout.tags, episodes=layout.num_envs is not None)

    def _tell(self, visit: Visit, position: int, totals: Any) -> None:
        """Tell the experiment of the steps up to a position; waits until the device has taken them."""
        self._session.track([[self._program.interval(jax.device_get(totals))]])
        self._session.complete(visit, position)

    def _keep(self, visit: Visit, position: int, state: State) -> None:
        stored = self._shape.stored(raw_leaves(state))
        self._session.kept.put(self._session.experiment, stored, visit.position(position))

    def _empty(self, state: State, position: Position) -> State:
        """Return a state for a checkpoint to be put in, its arrays where those of the given one are."""
        ys = jax.tree.map(lambda y: jnp.zeros((position.length, *y.shape[1:]), y.dtype), data_of(state.ys))
        return State(data_of(state.carry), state.running, ys)

    def _restored(self, state: State, visit: Visit) -> State:
        kept = self._session.kept.taken()
        count = 0 if visit.before else self._length
        ys = jax.tree.map(lambda y: fitted(np.asarray(y), count, self._length, 0), kept.ys)
        parts = [jnp.asarray(part) for part in self._shape.parts(kept._replace(ys=ys))]
        whole: State = with_keys(state, parts)
        return whole


def _copied(tree: Any) -> Any:
    return with_keys(tree, [jnp.array(leaf, copy=True) for leaf in raw_leaves(tree)])


def _length(xs: Any, length: int | None) -> int:
    """Return how many steps there are.

    Raises:
        InvalidValue: if nothing tells, or `length` is no whole number.
        ShapeMismatch: if two things tell otherwise.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(xs)}
    given = None if length is None else whole(length)
    if () in sizes:
        raise ShapeMismatch("`xs` holds a number without axes; expected a leading axis, of the loop's steps")
    lengths = {size for (size,) in sizes} | ({given} - {None})
    if len(lengths) != 1:
        if lengths:
            raise ShapeMismatch(
                f"`length` is {length}, and `xs` have leading axes of {sorted(size for (size,) in sizes)}"
            )
        raise InvalidValue("`length` is None and there are no `xs`; give one of them")
    (count,) = lengths
    if count is None or count < 0:
        raise InvalidValue(f"`length` is {as_given(length)}; allowed: a whole number of at least 0")
    return count


def whole(length: Any) -> int:
    """Return a length as an integer of Python.

    Raises:
        InvalidValue: if it is no whole number, or traced.
    """
    try:
        return operator.index(length)
    except Exception as error:
        raise InvalidValue(f"`length` is {as_given(length)}; allowed: a whole number") from error


_programs: weakref.WeakKeyDictionary[Any, dict[Any, Program]] = weakref.WeakKeyDictionary()


def _program(f: Callable[[Any, Any], Any], init: Any, xs: Any, *, resets: bool) -> Program:
    """Return a function traced, once for arguments of the same kinds where it is not within another program."""
    carry = jax.tree.map(jnp.asarray, init)
    x = jax.tree.map(lambda x: x[0] if len(x) else jnp.zeros(x.shape[1:], x.dtype), xs)
    if not _is_at_top():
        return Program.of(f, carry, x, resets=resets)
    kinds = tuple((leaf.shape, leaf.dtype, leaf.weak_type) for leaf in raw_leaves((carry, x)))
    key = jax.tree.structure((carry, x)), kinds, resets, jnp.zeros((), float).dtype
    try:
        known = _programs.setdefault(f, {})
    except TypeError:  # a function that nothing can be remembered of
        known = {}
    if key not in known:
        known[key] = Program.of(f, carry, x, resets=resets)
    return known[key]
