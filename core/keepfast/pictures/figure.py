"""A picture as a file, through Matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from keepfast._system.commit import commit
from keepfast.errors import InvalidValue, MissingDependency, shown
from keepfast.pictures.chart import Chart
from keepfast.pictures.picture import Picture
from keepfast.pictures.vector import LIGHT

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
        drawn = {
            label: axes.plot(*curve, linewidth=thin, marker="." if len(curve.steps) == 1 else "")[0]
            for label, curve in picture.curves.items()
        }
        if (spread := picture.spread) is not None:
            axes.fill_between(spread.steps, spread.lower.values, spread.upper.values, color="black", alpha=0.15)
            label = f"mean of {spread.of} ± {spread.measure}"
            drawn[label] = axes.plot(spread.steps, spread.mean, color="black", linewidth=2)[0]
        axes.set(title=picture.tag, xlabel="timesteps")
        axes.grid(alpha=0.3)
        axes.legend(list(drawn.values()), list(drawn), fontsize="small")
        form = _FORMATS[path.suffix.lower()]
        commit(path, lambda file: figure.savefig(file, format=form, dpi=150))


def write_chart(chart: Chart, path: Path) -> None:
    """Write a chart of a report as a picture: bands, thin lines of what was measured, thick ones of it smoothed.

    Raises:
        WriteFailed: if the operating system refused; what was there before is untouched.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        shown_lines = {}
        for line in chart.lines:
            color = LIGHT[line.color % len(LIGHT)]
            if (spread := line.spread) is not None:
                axes.fill_between(spread.steps, spread.lower.values, spread.upper.values, color=color, alpha=0.18)
            for curve in line.measured:
                axes.plot(*curve, linewidth=0.8, alpha=0.35, color=color)
            marker = "." if len(line.smooth.steps) == 1 else ""
            shown_lines[line.label] = axes.plot(*line.smooth, linewidth=2, color=color, marker=marker)[0]
        axes.set(title=shown(chart.tag), xlabel="timesteps")
        axes.grid(alpha=0.3)
        axes.legend(list(shown_lines.values()), list(shown_lines), fontsize="small")
        form = _FORMATS[path.suffix.lower()]
        commit(path, lambda file: figure.savefig(file, format=form, dpi=150))
