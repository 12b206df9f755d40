"""How good a classifier is, and how it got there: confusion, calibration, learning curves."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from llmlab.errors import LabError
from llmlab.plots.style import COLOURS, CYCLE, Picture, ink_on, picture, plain, text_width

_EMPTY = {"text/html": "", "text/plain": ""}

Curves = Mapping[str, Mapping[float, float]]  # name -> step -> value


def confusion(matrix: Any, labels: Sequence[str], *, alt: str = "", title: str = "") -> Picture:
    """Which labels are taken for which: right answers green, mistakes red, deeper the more.

    Args:
        matrix: counts of shape (true label, predicted label), as scikit-learn's
            `confusion_matrix` returns them.
        labels: their names, in that order.
        alt: see `picture`; by default the title and each cell.
        title: the message of the picture.

    Returns:
        The picture. Each cell has its count, and its share of all texts with that true label.

    Raises:
        LabError: the matrix is not square, not of counts, or not one row a label.
    """
    try:
        counts = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        raise LabError("confusion needs a matrix of counts, as many in each row.") from None
    names = [str(label) for label in labels]
    if counts.shape != (len(names), len(names)) or not names:
        raise LabError(
            f"confusion needs counts of shape ({len(names)}, {len(names)}), true × predicted, for "
            f"{len(names)} labels; these have {counts.shape}."
        )
    if (counts < 0).any() or (counts != counts.round()).any():
        raise LabError("confusion needs whole counts. Leave out normalize= in confusion_matrix.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    told = "; ".join(
        f"true {names[row]}: "
        + ", ".join(f"{counts[row, column]:.0f} as {names[column]}" for column in range(len(names)))
        for row in range(len(names))
    )
    alt = alt or (f"{title}: {told}" if title else f"Confusion matrix. {told}")
    many = len(names) > 4
    figure, axes = picture("large" if many else "wide", alt=alt)
    paper = np.array(to_rgb(COLOURS["paper"]))
    cells = np.empty((*counts.shape, 3))
    for row, column in np.ndindex(counts.shape):
        end = np.array(to_rgb(COLOURS["correct" if row == column else "wrong"]))
        cells[row, column] = paper + shares[row, column] * (end - paper)
    axes.imshow(cells, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        number, share = f"{counts[row, column]:,.0f}", f"{100 * shares[row, column]:.0f} %"
        axes.text(
            column, row, number if many else f"{number}\n{share}", ha="center", va="center",
            color=ink_on(cells[row, column]), fontsize=9.5 if many else 12,
        )  # fmt: skip
    turned = max(map(text_width, names)) > 6.0 / len(names)
    rotation: dict[str, Any] = {"rotation": 45, "ha": "right"} if turned else {}
    shown = [plain(name) for name in names]
    axes.set_xticks(range(len(names)), labels=shown, **rotation)
    axes.set_yticks(range(len(names)), labels=shown)
    # a line between the cells: those of no mistakes are as white as the paper
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=COLOURS["masked"], linewidth=1)
    axes.tick_params(which="both", length=0)
    of_row = "" if many else " (percentages are of each row)"
    axes.set(title=title, xlabel=f"predicted label{of_row}", ylabel="true label")
    for spine in axes.spines.values():
        spine.set_visible(True)
    return figure


def calibration(table: Any, *, alt: str = "", title: str = "") -> Picture:
    """A reliability diagram: is it right as often as it is sure? With the counts below.

    On the diagonal confidence and accuracy agree. Guo et al. 2017 (On calibration of modern neural
    networks), whose expected calibration error (ECE) stands in the picture.

    Args:
        table: from `classification.calibration`.
        alt: see `picture`; by default the title, the error and each bin.
        title: the message of the picture.

    Returns:
        The picture.

    Raises:
        LabError: the table is another.
    """
    wanted = ["from", "to", "count", "confidence", "accuracy"]
    if list(getattr(table, "columns", [])) != wanted or not len(table):
        raise LabError(
            "plots.calibration needs the table that classification.calibration returns, with the "
            f"columns {', '.join(wanted)}."
        )
    low, high, count, sure, right = (table[name].to_numpy(dtype=float) for name in wanted)
    error = float(np.average(np.abs(sure - right), weights=count))
    told = "; ".join(
        f"{a:.2f} to {b:.2f}: confidence {c:.2f}, accuracy {d:.2f}, {n:.0f} texts"
        for a, b, n, c, d in zip(low, high, count, sure, right, strict=True)
    )
    alt = alt or f"{title or 'Confidence and accuracy'}: {told}. Calibration error {error:.3f}"
    ratios = {"height_ratios": [3, 1]}
    figure, (axes, below) = picture("large", alt=alt, nrows=2, sharex=True, gridspec_kw=ratios)
    figure.set_figheight(6)
    left = min(0.5, float(low[0]))  # with two labels the winner has at least 0.5
    bottom = min(left, float(right.min()))
    axes.plot([left, 1], [left, 1], "--", color=COLOURS["masked"], label="as sure as right")
    for c, d in zip(sure, right, strict=True):
        axes.plot([c, c], [c, d], color=COLOURS["wrong"], linewidth=2)
    axes.plot(sure, right, "o", color=COLOURS["probability"], markersize=9, label="a bin of texts")
    axes.plot([], [], color=COLOURS["wrong"], linewidth=2, label="the gap between both")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0.9))
    axes.set(title=title, ylabel="share that is right", ylim=(bottom - 0.04, 1.04))
    note = f"calibration error {error:.3f}"
    axes.text(left, 0.99, note, va="center", fontweight="bold", color=COLOURS["wrong"])
    drawn = below.bar((low + high) / 2, count, width=0.9 * (high - low), color=CYCLE[0])
    below.bar_label(drawn, labels=[f"{n:,.0f}" for n in count], padding=2, fontsize=9)
    below.margins(y=0.35)
    below.set(xlabel="probability of the predicted label", ylabel="texts", yticks=[])
    below.set_xlim(left - 0.04, 1.04)
    if bottom == left:  # the same span on both axes: then the line of the honest lies at 45 degrees
        axes.set_box_aspect(1)
        below.set_box_aspect(1 / 3)
    return figure


def learning_curve(
    curves: Mapping[str, Sequence[float] | Mapping[float, float]],
    *,
    mark: str = "",
    alt: str = "",
    title: str = "",
    xlabel: str = "step",
    ylabel: str = "loss",
) -> Picture:
    """How the loss (or the accuracy) goes on while training, each curve named at its end.

    Args:
        curves: name -> the values at steps 1, 2, 3, …, or a mapping from step to value for what
            is measured less often.
        mark: name of a curve whose lowest point is marked: from there on the model overfits.
        alt: see `picture`; by default the title and each curve's first, lowest and last value.
        title: the message of the picture.
        xlabel: what a step is.
        ylabel: what the values are, with their unit.

    Returns:
        The picture.

    Raises:
        LabError: no values, values that are no numbers, no such curve to mark.
    """
    lines = {name: _steps(name, values) for name, values in curves.items()}
    if not lines:
        raise LabError("A learning curve needs at least one curve: {'training': losses}.")
    if mark and mark not in lines:
        raise LabError(f"There is no curve {mark!r} to mark. There are: {', '.join(lines)}.")
    told = "; ".join(f"{name} {_told(values)}" for name, values in lines.items())
    figure, axes = picture("wide", alt=alt or f"{title or ylabel}: {told}")
    _draw(figure, axes, lines, mark)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


class LiveCurve:
    """Curves that grow while a model trains. Made by `live_curve`.

    Attributes:
        curves: name -> step -> value, all that was added.
    """

    def __init__(self, alt: Any, title: str, xlabel: str, ylabel: str, mark: str) -> None:
        if not callable(alt) and not (alt or "").strip():
            raise LabError("Every picture has alt text: say in it what the curves say in the end.")
        self.curves: dict[str, dict[float, float]] = {}
        self._alt, self._mark = alt, mark
        self._labels = {"title": title, "xlabel": xlabel, "ylabel": ylabel}
        self._place: Any = None  # where in the notebook
        self._last = self._next = 0.0  # the last step; when to draw again

    def __enter__(self) -> "LiveCurve":
        return self

    def __exit__(self, *error: Any) -> None:
        """Draw what there is a last time, also after an error or the stop button."""
        display = _display()
        if not self.curves or display is None:
            return
        # nbval compares what was displayed and knows no updates. So the place of the drawings is
        # empty at first and in the end, and the last one, whose alt text is final, has its own.
        if self._place is not None:
            self._place.update(_EMPTY, raw=True)
        display(self.picture if error == (None,) * 3 else self._drawn())

    def add(self, step: float | None = None, /, **values: Any) -> None:
        """Add a value to each curve named, and draw if it is time to.

        Args:
            step: where; by default one more than the last.
            **values: name of the curve = a number (or a tensor of one).

        Raises:
            LabError: a value is no number.
        """
        self._last = self._last + 1 if step is None else float(step)
        for name, value in values.items():
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError):
                raise LabError(
                    f"{name} must be one number a step, and {value!r:.60} is none."
                ) from None
            self.curves.setdefault(name, {})[self._last] = number
        if self.curves and time.monotonic() >= self._next:
            start = time.monotonic()
            self._show()
            # drawing takes a tenth of the time at most, and nobody needs it twice a second
            self._next = time.monotonic() + max(0.5, 10 * (time.monotonic() - start))

    @property
    def picture(self) -> Picture:
        """The curves as they are now."""
        if not self.curves:
            raise LabError("There is nothing to draw yet: curve.add(training=loss) comes first.")
        return self._drawn(self._alt(self.curves) if callable(self._alt) else self._alt)

    def _drawn(self, alt: str = "") -> Picture:
        """The same; without `alt` (which may speak of the end) with a text that says what is."""
        mark = self._mark if self._mark in self.curves else ""
        return learning_curve(self.curves, alt=alt, mark=mark, **self._labels)

    def _show(self) -> None:
        """Draw where the last drawing was; nothing outside a notebook."""
        display = _display()
        if display is None:
            return
        if self._place is None:
            self._place = display(_EMPTY, raw=True, display_id=True)
        self._place.update(self._drawn())


def live_curve(
    *,
    alt: str | Callable[[Curves], str],
    title: str = "",
    xlabel: str = "step",
    ylabel: str = "loss",
    mark: str = "",
) -> LiveCurve:
    """A learning curve that is drawn while the model trains, in one place of the notebook.

    On leaving the `with` block the last state is drawn; that is the picture that is stored:

        with plots.live_curve(alt="The loss falls from 0.7 to 0.4.") as curve:
            for batch in batches:
                ...
                curve.add(training=loss.item())

    Args:
        alt: what the picture says in the end; or a function that says it, called in the end with
            all curves (name -> step -> value).
        title: the message of the picture.
        xlabel: what a step is.
        ylabel: what the values are, with their unit.
        mark: name of a curve whose lowest point is marked.

    Returns:
        A context manager with `add`; later `curves` and `picture` hold the result.
    """
    return LiveCurve(alt, title, xlabel, ylabel, mark)


def _display() -> Any:
    """IPython's `display`, where there is a cell to draw in: there IPython is loaded."""
    ipython = sys.modules.get("IPython")
    return ipython.display.display if ipython and ipython.get_ipython() else None


def _steps(name: str, values: Any) -> dict[float, float]:
    """A curve as step -> value, in the order of the steps."""
    try:
        if not isinstance(values, Mapping):
            values = dict(enumerate(values, 1))
        points = {float(step): float(value) for step, value in values.items()}
    except (TypeError, ValueError, RuntimeError):
        raise LabError(
            f"The curve {name!r} needs a number a step: a list, or a mapping from step to value."
        ) from None
    if not points or not np.isfinite(list(points.values())).any():
        raise LabError(f"The curve {name!r} has no value. Did the loss become nan?")
    return dict(sorted(points.items()))


def _lowest(points: Mapping[float, float]) -> float:
    """The step of the lowest value."""
    return min((step for step, v in points.items() if np.isfinite(v)), key=lambda s: points[s])


def _told(points: Mapping[float, float]) -> str:
    """A curve in words."""
    first, *_, last = [*points.items()] * 2 if len(points) == 1 else points.items()
    lowest = _lowest(points)
    low = "" if lowest in (first[0], last[0]) else f", lowest {points[lowest]:.2f} at {lowest:g}"
    return f"from {first[1]:.2f} (step {first[0]:g}){low} to {last[1]:.2f} (step {last[0]:g})"


def _draw(figure: Picture, axes: Any, lines: Curves, mark: str) -> None:
    """The curves, names at their right ends, the lowest point of one marked."""
    names = []
    for (name, points), colour in zip(lines.items(), CYCLE * len(lines), strict=False):
        steps, values = list(points), list(points.values())
        marker = "o" if len(steps) <= 30 else ""
        axes.plot(steps, values, color=colour, linewidth=2, marker=marker, markersize=4)
        end = max(step for step in steps if np.isfinite(points[step]))
        style = {"textcoords": "offset points", "va": "center", "color": colour}
        names.append(axes.annotate(plain(name), (end, points[end]), xytext=(6, 0), **style))
        if name == mark:
            low = (_lowest(points), points[_lowest(points)])
            axes.plot(*low, "o", markersize=11, fillstyle="none", color=colour, markeredgewidth=2)
            text = f"lowest: {low[1]:.2f}"
            # below the point, where its own curve is not; paper behind it where another one is
            style = {"textcoords": "offset points", "ha": "center", "va": "top", "color": colour}
            paper = {"facecolor": COLOURS["paper"], "edgecolor": "none", "pad": 1}
            axes.annotate(text, low, xytext=(0, -11), fontweight="bold", bbox=paper, **style)
    axes.margins(x=0.12, y=0.22 if mark else 0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no step 1.5
    # Curves that end close together: their names move up, each just above the one below.
    figure.draw_without_rendering()
    points_a_pixel, lowest = 72 / figure.dpi, -float("inf")
    for name in sorted(names, key=lambda name: name.xy[1]):
        y = axes.transData.transform(name.xy)[1] * points_a_pixel
        lowest = max(y, lowest + 1.25 * name.get_fontsize())
        name.set_position((6, lowest - y))
