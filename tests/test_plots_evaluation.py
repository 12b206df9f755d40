"""Pictures of how good a classifier is: they say what the numbers say, and nothing is cut."""

import base64
import io

import numpy as np
import pandas
import pytest
from IPython.core import interactiveshell
from matplotlib.text import Text
from PIL import Image

from llmlab import LabError, plots
from llmlab.classification import calibration
from tests.test_plots import undrawn

TWO = ["NEGATIVE", "POSITIVE"]
RISING = {"training": [1.0, 0.5, 0.2, 0.1], "validation": {1: 1.1, 2: 0.7, 4: 0.9}}
DRAWN = {
    "confusion": lambda: plots.confusion([[90, 13], [21, 84]], TWO, title="13 of 103"),
    "confusion of nine": lambda: plots.confusion(
        np.arange(81).reshape(9, 9), [f"LABEL_with_a_name_{i}" for i in range(9)]
    ),
    "confusion, a label never seen": lambda: plots.confusion([[3, 0], [0, 0]], TWO),
    "calibration": lambda: plots.calibration(
        calibration([0.55, 0.75, 0.95, 0.97], [True, False, True, True]), title="As sure as right?"
    ),
    "calibration of one bin": lambda: plots.calibration(calibration([1.0], [True])),
    "learning curve": lambda: plots.learning_curve(RISING, mark="validation", title="overfits"),
    "one point": lambda: plots.learning_curve({"training": [0.7]}, mark="training"),
    "many steps": lambda: plots.learning_curve({"training": np.linspace(3, 0.1, 500)}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_is_cut_or_covers_another(name):
    figure = DRAWN[name]()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes, beyond = [], undrawn(figure)
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or text in beyond:
            continue
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= -1, text.get_text()
        assert box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()
        if text.get_rotation() == 0:
            boxes.append((box, text.get_text()))
    for i, (box, said) in enumerate(boxes):
        for other, also in boxes[i + 1 :]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide < 2 or high < 2, (said, also)


def test_a_confusion_says_every_count_and_its_share():
    figure = plots.confusion([[90, 10], [21, 84]], TWO, title="Ten of a hundred")
    assert figure.alt == (
        "Ten of a hundred: true NEGATIVE: 90 as NEGATIVE, 10 as POSITIVE; "
        "true POSITIVE: 21 as NEGATIVE, 84 as POSITIVE"
    )
    written = {text.get_text() for text in figure.findobj(Text)}
    assert {"90\n90 %", "10\n10 %", "21\n20 %", "84\n80 %"} <= written


def test_right_answers_and_mistakes_have_their_colours_and_more_is_deeper():
    (image,) = plots.confusion([[90, 10], [60, 40]], TWO).axes[0].images
    cells = np.asarray(image.get_array())
    red, green = cells[..., 0], cells[..., 1]
    assert green[0, 0] > red[0, 0] and green[1, 1] > red[1, 1]
    assert red[0, 1] > green[0, 1] and red[1, 0] > green[1, 0]
    assert cells[1, 0].sum() < cells[0, 1].sum()  # 60 % is darker than 10 %


def test_a_calibration_shows_each_bin_at_its_place_with_its_count_and_the_error():
    table = calibration([0.6, 0.6, 0.9, 0.9], [True, False, True, True], bins=5)
    figure = plots.calibration(table)
    points = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xydata(), [[0.6, 0.5], [0.9, 1.0]])
    assert figure.alt.endswith("Calibration error 0.100")
    assert "0.40 to 0.60: confidence 0.60, accuracy 0.50, 2 texts" in figure.alt
    assert "calibration error 0.100" in [text.get_text() for text in figure.findobj(Text)]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [2, 2]


def test_a_learning_curve_says_start_lowest_and_end_and_marks_the_lowest():
    figure = plots.learning_curve(RISING, mark="validation")
    assert figure.alt == (
        "loss: training from 1.00 (step 1) to 0.10 (step 4); "
        "validation from 1.10 (step 1), lowest 0.70 at 2 to 0.90 (step 4)"
    )
    (ring,) = [line for line in figure.axes[0].lines if line.get_markersize() == 11]
    assert ring.get_xydata().tolist() == [[2, 0.7]]
    assert "lowest: 0.70" in [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.confusion([[1, 2]], TWO), r"shape \(2, 2\), true × predicted.* \(1, 2\)"),
        (lambda: plots.confusion([[0.5, 0.5], [0, 1]], TWO), r"whole counts. Leave out normalize="),
        (lambda: plots.confusion([["a"]], ["A"]), r"a matrix of counts"),
        (lambda: plots.calibration(pandas.DataFrame({"a": [1]})), r"classification.calibration"),
        (lambda: plots.learning_curve({}), r"at least one curve"),
        (lambda: plots.learning_curve({"a": [1]}, mark="b"), r"no curve 'b' to mark.* are: a\."),
        (lambda: plots.learning_curve({"a": ["x"]}), r"'a' needs a number a step"),
        (lambda: plots.learning_curve({"a": [float("nan")]}), r"'a' has no value.*become nan\?"),
        (lambda: plots.live_curve(alt=" "), r"Every picture has alt text"),
        (lambda: plots.live_curve(alt="a").picture, r"nothing to draw yet"),
        (lambda: plots.live_curve(alt="a").add(loss=[1, 2]), r"loss must be one number a step"),
    ],
)
def test_numbers_that_make_no_picture_are_refused_in_words(draw, message):
    with pytest.raises(LabError, match=message):
        draw()


# ---- live --------------------------------------------------------------------------------------


@pytest.fixture
def cell(monkeypatch):
    """A notebook's cell: the messages that are sent to it, in order: (kind, data)."""
    sent = []
    shell = interactiveshell.InteractiveShell.instance()

    def publish(data, metadata=None, *, transient=None, update=False, **other):
        sent.append(("update" if update else "display", data, (transient or {}).get("display_id")))

    monkeypatch.setattr(shell.display_pub, "publish", publish)
    yield sent
    interactiveshell.InteractiveShell.clear_instance()


def as_stored(sent):
    """What a notebook keeps: each display as it was updated last."""
    places = []
    for kind, data, place in sent:
        if kind == "display":
            places.append([place, data])
        for entry in places:
            if kind == "update" and entry[0] == place:
                entry[1] = data
    return [data for _, data in places]


def test_a_live_curve_is_drawn_in_one_place_and_stored_once_with_its_alt_text(cell):
    def said(curves):
        return f"falls to {curves['training'][6]:.2f}"

    with plots.live_curve(alt=said, title="loss", mark="validation") as curve:
        for step in range(1, 7):
            curve.add(training=1 / step)
        curve.add(6, validation=0.4)
    drawings = [data for kind, data, _ in cell if kind == "update" and "image/png" in data]
    assert drawings  # while it ran
    empty, last = as_stored(cell)
    assert empty == {"text/html": "", "text/plain": ""}
    assert last["text/plain"] == "falls to 0.17" == curve.picture.alt
    assert Image.open(io.BytesIO(base64.b64decode(last["image/png"]))).width > 500
    assert curve.curves == {"training": {s: 1 / s for s in range(1, 7)}, "validation": {6: 0.4}}


def test_what_is_displayed_first_is_what_is_stored_but_for_the_drawing(cell):
    """nbval knows no updates: it compares the first content of a display with the stored one."""
    with plots.live_curve(alt="it falls") as curve:
        curve.add(training=1)
        curve.add(training=0.5)
    displayed = [data for kind, data, _ in cell if kind == "display"]
    assert displayed == as_stored(cell)


def test_drawing_takes_a_small_part_of_the_time(cell):
    with plots.live_curve(alt="it falls") as curve:
        for _ in range(300):
            curve.add(training=1)
    drawings = [data for kind, data, _ in cell if "image/png" in data]
    assert len(drawings) <= 4


def test_after_an_error_there_is_the_picture_as_far_as_it_went(cell):
    with (
        pytest.raises(KeyboardInterrupt),
        plots.live_curve(alt=lambda curves: f"{curves['training'][1000]}") as curve,
    ):
        curve.add(training=1)
        curve.add(training=0.5)
        raise KeyboardInterrupt
    assert as_stored(cell)[-1]["text/plain"] == (
        "loss: training from 1.00 (step 1) to 0.50 (step 2)"
    )


def test_outside_a_notebook_nothing_is_drawn_and_the_picture_is_there():
    with plots.live_curve(alt="it falls") as curve:
        curve.add(training=1)
    assert curve.picture.alt == "it falls"
