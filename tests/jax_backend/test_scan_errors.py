"""What `keepfast_jax.scan` refuses is refused while it is traced, by name, with the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import keepfast  # noqa: E402
import keepfast_jax  # noqa: E402
from keepfast_jax.scanning.progress import Progress, line  # noqa: E402

Transitions = keepfast_jax.Transitions


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    """Return an experiment that is closed at the end, with nothing tracked."""
    made = keepfast.Experiment({"directory": str(tmp_path), "writers": ["jsonl"]}, timesteps=4)
    yield made
    made.close()


TRACKED: dict[str, tuple[Any, str]] = {
    "no scalar": ({"Loss / x": jnp.ones(3)}, r"the value of `Loss / x` has the shape \(3,\); allowed: a single number"),
    "complex": ({"Loss / x": jnp.array(1j)}, "the value of `Loss / x` has the dtype complex64; allowed: real numbers"),
    "a key": ({"Loss / x": jax.random.key(0)}, r"the value of `Loss / x` has the dtype key<fry>"),
    "text": ({"Loss / x": "high"}, "the value of `Loss / x` is a str; allowed: a single number"),
    "None": ({"Loss / x": None}, "the value of `Loss / x` is a NoneType"),
    "nested": ({"Loss": {"x": 1.0}}, "the value of `Loss` is a dict"),
    "a tag": ({3: 1.0}, r"a tag is 3 \(int\); allowed: a string"),
    "no dict": (jnp.ones(()), "tracks a .*; allowed: a dictionary of numbers by tag"),
    "twice": (
        {"a": Transitions(*jnp.zeros((3, 2))), "b": Transitions(*jnp.zeros((3, 2)))},
        "transitions are tracked as 'a' and as 'b'; allowed: one `Transitions`",
    ),
    "no flags": ({"t": Transitions(jnp.ones(2), None, jnp.ones(2))}, "`Transitions` has terminated that are no arrays"),
    "by agent": ({"t": Transitions({"one": jnp.ones(2)}, jnp.ones(2), jnp.ones(2))}, "`Transitions` has rewards that"),
    "complex rewards": (
        {"t": Transitions(*jnp.zeros((3, 2), complex))},
        "`Transitions` has rewards of dtype complex64",
    ),
}


@pytest.mark.parametrize("form", ["outside", "inside"])
@pytest.mark.parametrize("case", TRACKED)
def test_what_is_tracked_is_checked(experiment: keepfast.Experiment, case: str, form: str) -> None:
    """Each number by its tag; transitions by their parts."""
    tracked, message = TRACKED[case]
    loop: Any = lambda init: keepfast_jax.scan(lambda c, _: (c, tracked), init, length=4, experiment=experiment)  # noqa: E731
    call = loop if form == "outside" else jax.jit(loop)
    with pytest.raises(keepfast.InvalidValue, match=message):
        call(0.0)


def test_parts_of_transitions_are_of_one_size(experiment: keepfast.Experiment) -> None:
    """The error shows each of them."""
    wrong = Transitions(jnp.ones(3), jnp.ones(2), jnp.ones(3))
    with pytest.raises(keepfast.ShapeMismatch, match=r"rewards \(3,\), terminated \(2,\), truncated \(3,\)"):
        keepfast_jax.scan(lambda c, _: (c, {"t": wrong}), 0.0, length=4, experiment=experiment)


@pytest.mark.parametrize(
    "branch", [lambda p, a, b: jax.lax.cond(p, a, b), lambda p, a, b: jax.lax.switch(1 * p, [a, b])]
)
def test_tags_that_differ_between_branches_are_named(experiment: keepfast.Experiment, branch: Any) -> None:
    """Whichever of JAX's conditionals has them."""

    def f(carry: Any, x: Any) -> Any:
        return carry, branch(x > 1, lambda: {"Loss / x": carry}, lambda: {"Loss / y": carry})

    with pytest.raises(keepfast.InvalidValue, match=r"branches .*Loss / x.*Loss / y") as raised:
        keepfast_jax.scan(f, 0.0, jnp.arange(4), experiment=experiment)
    assert isinstance(raised.value.__cause__, TypeError)


def test_other_errors_of_the_function_are_its_own(experiment: keepfast.Experiment) -> None:
    """A TypeError of the user's code stays one, and so does what JAX says of a carry that changes."""

    def broken(carry: Any, _: Any) -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        keepfast_jax.scan(broken, 0.0, length=4, experiment=experiment)
    with pytest.raises(TypeError, match="carry"):
        keepfast_jax.scan(lambda c, _: (jnp.ones(3), {}), 0.0, length=4, experiment=experiment)


@pytest.mark.parametrize(
    ("returned", "told"),
    [((1.0,), "a tuple of 1"), ((1.0, None, {}, {}), "a tuple of 4"), ({}, "a dict"), (1.0, "a float")],
)
def test_the_function_returns_two_or_three_parts(experiment: keepfast.Experiment, returned: Any, told: str) -> None:
    """The error says what it returned."""
    with pytest.raises(keepfast.InvalidValue, match=f"returned {told}; allowed: "):
        keepfast_jax.scan(lambda *_: returned, 0.0, length=4, experiment=experiment)


@pytest.mark.parametrize(
    ("xs", "length", "error", "told"),
    [
        (None, None, keepfast.InvalidValue, "give one of them"),
        (np.ones(3), 4, keepfast.ShapeMismatch, r"`length` is 4, and `xs` have leading axes of \[3\]"),
        ((np.ones(3), np.ones(4)), None, keepfast.ShapeMismatch, r"leading axes of \[3, 4\]"),
        (1.0, None, keepfast.ShapeMismatch, "a number without axes"),
        (None, -1, keepfast.InvalidValue, "`length` is -1"),
        (None, 1.5, keepfast.InvalidValue, "`length` is 1.5"),
    ],
)
def test_the_length_is_told_once(
    experiment: keepfast.Experiment, xs: Any, length: Any, error: type[Exception], told: str
) -> None:
    """By `length` or by the leading axes, which agree."""
    with pytest.raises(error, match=told):
        keepfast_jax.scan(lambda c, _: (c, {}), 0.0, xs, length, experiment=experiment)


def test_tracking_under_a_trace_names_the_way(experiment: keepfast.Experiment) -> None:
    """`track_data` and `record_transition` say to use `keepfast_jax.scan`."""
    with pytest.raises(keepfast.InvalidValue, match=r"`Loss / x`: it is being traced.* use keepfast_jax"):
        jax.jit(lambda x: experiment.track_data("Loss / x", x))(1.0)
    with pytest.raises(keepfast.InvalidValue, match="use keepfast_jax"):
        jax.jit(lambda x: experiment.record_transition(x, x > 0, x > 0))(jnp.ones(2))


@pytest.mark.parametrize("within", [lambda loss: loss, jax.jit])
def test_a_derivative_through_the_loop_is_refused(experiment: keepfast.Experiment, within: Any) -> None:
    """While it is traced; within the function that the loop is given it is taken as ever."""

    def loss(x: Any) -> Any:
        return keepfast_jax.scan(lambda c, _: (c * x, {"c": c}), x, length=4, experiment=experiment)[0]

    with pytest.raises(keepfast.InvalidValue, match=r"a derivative is taken through `keepfast_jax\.scan`"):
        jax.grad(within(loss))(2.0)
    with pytest.raises(keepfast.InvalidValue, match="a derivative is taken"):
        jax.jit(jax.vmap(jax.value_and_grad(loss)))(jnp.ones(3))


def test_a_closed_experiment_is_refused_at_once(experiment: keepfast.Experiment) -> None:
    """Not after a first piece of the loop."""
    experiment.close()
    with pytest.raises(keepfast.UsageError, match="was closed"):
        keepfast_jax.scan(lambda c, _: (c, {}), 0.0, length=4, experiment=experiment)


def test_progress_tells_the_rate_and_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal alone; the last line ends with the loop."""
    import datetime as dt
    import sys

    now = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
    assert line(2500, 10000, 500.0, now) == "2,500 of 10,000 steps (25 %), 500 a second, end expected at 12:00:15"
    assert line(10, 10, 0.0) == "10 of 10 steps (100 %)"
    progress = Progress()
    progress.tell(5, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for done in (5, 10):
        progress.tell(done, 10)
    assert "10 of 10 steps (100 %)" in capsys.readouterr().err
