"""A picture as a file, through Matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from keepfast._system.commit import commit
from keepfast.errors import InvalidValue, MissingDependency
from keepfast.pictures.picture import Picture

_FORMATS = {".png": "png", ".svg": "svg"}


def check_output(path: Path) -> None:
    """Check that a picture can be written under a name, before anything is read for it.

    Raises:
        InvalidValue: if it is neither a ``.png`` nor a ``.svg``.
        MissingDependency: if Matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise InvalidValue(f"cannot draw `{path}`; allowed: a name that ends with {' or '.join(_FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependency(
            f'drawing `{path}` needs `matplotlib`, which is not installed; run: pip install "keepfast[plot]"'
        )


def write_figure(picture: Picture, path: Path) -> None:
    """Write a picture with thin curves for the runs, a thick one for their mean and a band for their spread.

    Raises:
        WriteFailed: if the operating system refused; what was there before is untouched.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.parse_math": False}):  # a dollar sign in a name is no formula
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        thin = 1.6 if picture.spread is None else 0.8
        shown = {
            label: axes.plot(*curve, linewidth=thin, marker="." if len(curve.steps) == 1 else "")[0]
            for label, curve in picture.curves.items()
        }
        if (spread := picture.spread) is not None:
            axes.fill_between(spread.steps, spread.lower.values, spread.upper.values, color="black", alpha=0.15)
            label = f"mean of {spread.of} ± {spread.measure}"
            shown[label] = axes.plot(spread.steps, spread.mean, color="black", linewidth=2)[0]
        axes.set(title=picture.tag, xlabel="timesteps")
        axes.grid(alpha=0.3)
        axes.legend(list(shown.values()), list(shown), fontsize="small")
        form = _FORMATS[path.suffix.lower()]
        commit(path, lambda file: figure.savefig(file, format=form, dpi=150))
