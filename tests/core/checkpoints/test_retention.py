"""What stays and what goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from keepfast.checkpoints.index import IndexedCheckpoint, IndexedFile
from keepfast.checkpoints.retention import Retention


@st.composite
def directories(draw: st.DrawFn) -> list[IndexedCheckpoint]:
    """Draw what may lie in a directory: periodic and best checkpoints, of Keepfast and of others."""
    found = []
    for number, timestep in enumerate(draw(st.lists(st.integers(0, 50), unique=True, max_size=12))):
        best = draw(st.booleans())
        score = draw(st.floats(allow_nan=True)) if best else None
        metric = None if score is None else {"tag": "x", "value": score}
        files = {"agent": IndexedFile(f"{number}.pt", 1)}
        known = draw(st.sampled_from([True, True, True, False]))
        made = IndexedCheckpoint(timestep if known else None, best, files, metric=metric, own=draw(st.booleans()))
        found.append(replace(made, superseded=draw(st.booleans())))
    return found


def _is_milestone(checkpoint: IndexedCheckpoint, keep_every: int | None) -> bool:
    return keep_every is not None and (checkpoint.timestep or 0) % keep_every == 0


@given(
    checkpoints=directories(),
    keep_last=st.none() | st.integers(1, 5),
    keep_every=st.none() | st.integers(1, 10),
    keep_best=st.integers(0, 3),
    mode=st.sampled_from(["max", "min"]),
)
def test_what_must_stay_stays_and_no_more(
    checkpoints: list[IndexedCheckpoint],
    keep_last: int | None,
    keep_every: int | None,
    keep_best: int,
    mode: Literal["max", "min"],
) -> None:
    """The latest, the best, milestones and other people's files stay; of the others as many as told, live first."""
    removed = Retention(keep_last, keep_every, keep_best, mode).removable(checkpoints)
    kept = [checkpoint for checkpoint in checkpoints if checkpoint not in removed]
    assert all(checkpoint.own for checkpoint in removed)
    periodic = [c for c in checkpoints if c.own and not c.best and c.timestep is not None]
    if periodic:
        live = [c for c in periodic if not c.superseded]
        assert max(live or periodic, key=lambda c: c.timestep or 0) in kept
        beyond = [c for c in kept if c in periodic and not _is_milestone(c, keep_every)]
        assert keep_last is None or len(beyond) <= keep_last
    if any(not c.superseded for c in removed if c in periodic):
        assert not [c for c in kept if c in periodic and c.superseded and not _is_milestone(c, keep_every)]
    best = [c for c in checkpoints if c.own and c.best]
    scores = [c.score for c in best if c.score is not None and c.score == c.score]
    kept_best = [c for c in kept if c in best]
    assert len(kept_best) == min(len(best), max(keep_best, 1))
    if scores:
        top = max(scores) if mode == "max" else min(scores)
        assert top in [c.score for c in kept_best]


def test_the_latest_that_holds_the_memory_stays() -> None:
    """Where the memory is stored less often than the rest, `keep_last` does not remove the only copy of it."""

    def checkpoint(timestep: int, *modules: str) -> IndexedCheckpoint:
        name = f"agent_{timestep}.pt"
        return IndexedCheckpoint(timestep, False, {"agent": IndexedFile(name, 1)}, modules=modules)

    found = [checkpoint(step, "policy", *(["memory"] if step % 50 == 0 else [])) for step in range(10, 130, 10)]
    removable = Retention(2, None, 1, "max", frozenset({"memory"})).removable(found)
    assert [one.timestep for one in found if one not in removable] == [100, 110, 120]
