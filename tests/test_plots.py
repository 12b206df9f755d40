"""Pictures: they carry their message as text, nothing is cut, and they can be read by all."""

import base64
import html
import itertools
import math
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from llmlab import LabError, plots

LONG = "a label that is as long as a short sentence"


def flow():
    """A drawing of two boxes and an arrow."""
    figure, axes = plots.drawing(alt="text goes into a model")
    axes.set(xlim=(0, 8), ylim=(0, 3))
    plots.box(axes, (1.5, 1.5), "text", width=2)
    plots.box(axes, (6, 1.5), "model", width=2, filled=True)
    plots.arrow(axes, (2.5, 1.5), (5, 1.5), label="ids cost $5")
    return figure


DRAWN = {
    "bars": lambda: plots.bars(["$PATH", LONG], [0.7, 0.2], alt="0.700 and 0.200", xlabel="p"),
    "many bars": lambda: plots.bars([f"token {i}" for i in range(20)], range(20), alt="0 to 19"),
    "negative bars": lambda: plots.bars(["a", "b"], [-1.5, 2], alt="-1.5 and 2", title="logits"),
    "heatmap": lambda: plots.heatmap(
        [[0, 1], [0.5, 0.2]], ["one", LONG], ["three", LONG], alt="1.00 at most", title="weights"
    ),
    "head": lambda: plots.head(np.tril(np.ones((5, 5))) / 5, ["a", LONG, "$x$", "Ġthe", "b"]),
    "head of a long text": lambda: plots.head(np.eye(60), [f"token {i}" for i in range(60)]),
    "heads": lambda: plots.heads(np.stack([np.eye(5)] * 12), list("abcde"), title="Layer 3"),
    "large heatmap": lambda: plots.heatmap(np.eye(12), alt="a diagonal", digits=None),
    "curves": lambda: plots.curves(
        [0, 1, 2], {"train": [3, 2, 1], "a long name": [3, 1, 0.5]}, alt="both fall", ylabel="loss"
    ),
    "close curves": lambda: plots.curves(
        [0, 1], {"one": [0, 1.0], "two": [0, 1.0], "three": [2, 0.99]}, alt="all end near 1"
    ),
    "drawing": flow,
    "next token": lambda: plots.next_token(["I", " put", " it"], [" in", " $"], [0.7, 0.2]),
    "next token after a long text": lambda: plots.next_token(
        [" token"] * 60, [" a", " b", " c", " d", " e"], [0.99, 0.004, 0.003, 0.002, 0.001]
    ),
    "token bars": lambda: plots.token_bars(
        ["The", " sun", " sets"], [0.1, 0.2, 1], title="p", ylabel="P", highlight=[2]
    ),
    "many token bars": lambda: plots.token_bars([" token"] * 20, [0.5] * 20, title="p"),
    "token bars without a first": lambda: plots.token_bars(
        ["The", " sun", " sets"], [None, 0.0001, 1], title="p", highlight=[1], skipped=1
    ),
    "framed heatmap": lambda: plots.heatmap(
        [[0.0001, 0.5], [0.7, 0]], ["a", "b"], ["c", "d"], framed=[(0, 1)], title="w", digits=3
    ),
    "grouped bars": lambda: plots.grouped_bars(
        {"A question, $1?": {"Paris": 0.9, "Rome": 0.0001}, "Another": {"5": 0.7, "4": 0.1}},
        title="two",
        xlabel="P",
        wrong=[(1, 0)],
        legend="false",
    ),
    "looks": lambda: plots.looks(["The", " cat", " $"], [0.9, 0.1, 0], 1),
    "looks of a long text": lambda: plots.looks(["a token"] * 14, [1 / 14] * 14, title="evenly"),
    "heads beside": lambda: plots.heads_beside(
        {"one": (np.eye(2), ["a", "$b"]), "two": (torch.eye(12), [" token"] * 12)}, alt="diagonals"
    ),
    "by depth": lambda: plots.by_depth(
        {"large": np.linspace(0, 1, 30), "small": [0.1, 0.2], "one": [0.3]}, alt="all rise"
    ),
    "black boxes": lambda: plots.black_boxes(
        ["The", " sun", " is"], [504, 3575, 314], [7042, 260], [0.771, 0.064], "up", title="boxes"
    ),
    "sequences": lambda: plots.sequences(
        [("DNA", ["ATG", "?"], "next"), ("a long name", list("CC(=O)Oc1ccccc1C(=O)O" * 2), "a\nb")],
        title="two",
    ),
    "uses": lambda: plots.uses(
        [
            ("generate", "The sun ?", "sky", "M V H L T P ?", "the next"),
            ("find", "The sun sets in the fridge*", "fridge?", "GTG* GAG", "usually GAG"),
        ],
        heads=("words", "other"),
        title="two uses",
    ),
    "timeline": lambda: plots.timeline(
        [
            ("one", 2018.0, 1e8, "encoder"),
            ("two", 2018.1, 1.1e8, "decoder"),
            ("3", 2020, 1e12, "x"),
        ],
        alt="three models",
        ours=["two"],
        hollow=["3"],
    ),
    "aspirin": plots.aspirin,
    "map": lambda: plots.course_map("02"),
}
pictures = pytest.mark.parametrize("name", DRAWN)


@pictures
def test_a_picture_shows_itself_with_its_message(name):
    picture = DRAWN[name]()
    shown = picture._repr_mimebundle_()
    assert shown["text/plain"] == picture.alt
    alt, png = re.fullmatch(
        r'<img alt="([^"]+)" style="max-width:100%;[^"]+" src="data:image/png;base64,([^"]+)">',
        shown["text/html"],
    ).groups()
    assert html.unescape(alt) == picture.alt
    assert png == shown["image/png"]
    assert base64.b64decode(png).startswith(b"\x89PNG")


def undrawn(picture) -> set[Text]:
    """Labels of ticks beyond the ends of an axis: matplotlib keeps them and does not draw them."""
    found = set()
    for axis in [axis for axes in picture.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                found |= {tick.label1, tick.label2}
    return found


@pictures
def test_no_text_is_cut_or_lies_on_another(name):
    picture = DRAWN[name]()
    picture.draw_without_rendering()
    texts = [t for t in picture.findobj(Text) if t.get_visible() and t.get_text().strip()]
    texts = [t for t in texts if t not in undrawn(picture)]
    boxes = {t.get_text(): t.get_window_extent() for t in texts}
    assert len(boxes) > 1 or name == "large heatmap"
    whole = picture.bbox.padded(1)
    cut = [text for text, b in boxes.items() if not whole.contains(*b.min) or
           not whole.contains(*b.max)]  # fmt: skip
    assert cut == []
    # Slanted labels have boxes that overlap although the letters do not.
    straight = [t for t in texts if t.get_rotation() == 0]
    overlapping = [
        (a.get_text(), b.get_text())
        for a, b in itertools.combinations(straight, 2)
        if a.get_window_extent().padded(-1).overlaps(b.get_window_extent().padded(-1))
    ]
    assert overlapping == []


@pictures
def test_the_same_picture_has_the_same_bytes(name):
    first, second = DRAWN[name]()._repr_mimebundle_(), DRAWN[name]()._repr_mimebundle_()
    assert first == second


def test_labels_stand_as_they_are_given():
    axes = DRAWN["bars"]().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"\$PATH", LONG]
    assert [text.get_text() for text in axes.texts] == ["0.700", "0.200"]


def test_alt_text_is_needed_and_escaped():
    with pytest.raises(LabError, match="alt text"):
        plots.bars(["a"], [1], alt=" ")
    shown = plots.bars(["a"], [1], alt='"<s>" is 1')._repr_mimebundle_()
    assert 'alt="&quot;&lt;s&gt;&quot; is 1"' in shown["text/html"]
    assert shown["text/plain"] == '"<s>" is 1'


def test_a_heatmap_needs_a_matrix():
    with pytest.raises(LabError, match=r"needs \(row, column\); this has shape \(3,\)"):
        plots.heatmap([1, 2, 3], alt="a row")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.bars(["a", "b"], [1]), "2 places but 1 values: give one for each"),
        (lambda: plots.bars(["a", "b"], torch.rand(1, 2)), r"take one row, such as values\[0\]"),
        (lambda: plots.bars(["a"], ["high"]), "needs a list of numbers"),
        (lambda: plots.bars(["a"], 1), "needs a list of numbers"),
        (lambda: plots.bars(["a"], [1], colour="red"), "No colour 'red': .* There are query, key,"),
        (lambda: plots.token_bars(["a"], [1, 2]), "1 places but 2 values"),
        (lambda: plots.curves([0, 1], {"loss": [1]}, alt="x"), "2 places but 1 values"),
        (lambda: plots.heatmap([[1], [1, 2]], alt="x"), "as many in each row"),
        (lambda: plots.heatmap([[]], alt="x"), r"this has shape \(1, 0\)"),
        (lambda: plots.heatmap([[1, 2]], ["a", "b"], alt="x"), "1 rows but 2 labels"),
        (lambda: plots.heatmap([[1, 2]], columns=["a"], alt="x"), "2 columns but 1 labels"),
        (lambda: plots.picture("huge", alt="x"), "No size 'huge'. There are: small, wide, large"),
    ],
)
def test_mistakes_are_answered_in_words(call, sentence):
    with pytest.raises(LabError, match=sentence):
        call()


def test_tensors_are_taken_as_a_model_gives_them():
    """With gradients, in bfloat16: no warning, no call of detach in the student's cell."""
    for tensor in (torch.rand(2, 2, requires_grad=True), torch.rand(2, 2).bfloat16()):
        plots.heatmap(tensor, alt="x")
        plots.bars(["a", "b"], tensor[0])
        plots.curves([0, 1], {"a": tensor[0]}, alt="x")


def test_pictures_are_unknown_to_pyplot_and_leave_its_settings():
    before = dict(mpl.rcParams)
    DRAWN["bars"]()
    assert pyplot.get_fignums() == []  # else Jupyter would show them twice
    assert dict(mpl.rcParams) == before


def test_use_style_sets_the_look_of_all_figures():
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == plots.CYCLE


# ---- can everybody read it ---------------------------------------------------------------------


def luminance(colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def contrast(one, other) -> float:
    """Contrast ratio, 1 to 21 (WCAG 2.1)."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_every_colour_reads_on_paper():
    paper = plots.COLOURS["paper"]
    too_light = {
        name: contrast(colour, paper)
        for name, colour in [*plots.COLOURS.items(), *((c, c) for c in plots.CYCLE)]
        if name != "paper" and contrast(colour, paper) < 4.5
    }
    assert too_light == {}


def test_the_number_in_every_cell_of_a_heatmap_reads():
    values = np.linspace(-1, 1, 101)
    axes = plots.heatmap(values.reshape(1, -1), alt="-1 to 1").axes[0]
    image = axes.images[0]
    cells = image.cmap(image.norm(values))[:, :3]
    least = min(contrast(t.get_color(), c) for t, c in zip(axes.texts, cells, strict=True))
    assert least >= 4.5


# Machado, Oliveira and Fernandes (2009), full severity; rows are red, green, blue.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(rgb) -> np.ndarray:
    """CIE L*a*b* of a linear RGB colour, white D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.clip(to_xyz @ np.asarray(rgb), 0, None) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_with_a_meaning_stay_apart_for_the_colour_blind(blindness):
    def seen(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                  for c in to_rgb(colour)]  # fmt: skip
        return lab(np.array(BLINDNESS[blindness]) @ linear)

    together = [("query", "key", "value"), ("correct", "wrong"), ("attention", "masked")]
    for group in together:
        for one, other in itertools.combinations(group, 2):
            distance = math.dist(seen(plots.COLOURS[one]), seen(plots.COLOURS[other]))
            # 2 is just noticeable side by side; 10 is plain at a glance
            assert distance > 10, (one, other, distance)


def test_pictures_say_by_themselves_what_they_show():
    assert plots.bars(["a", "b"], {"a": 1, "b": 0}.values()).alt == "a 1.000, b 0.000"
    assert DRAWN["next token"]().alt == "After 'I put it': 'in' 0.700, '$' 0.200"
    assert DRAWN["token bars"]().alt == "p The 0.100, sun 0.200, sets 1.000. Marked: sets"
    told = "The sun is → tokenizer → 504 3575 314 → model → a probability for every id: "
    assert DRAWN["black boxes"]().alt.startswith(told + "7042 0.771, 260 0.064, …")
    assert DRAWN["framed heatmap"]().alt == "w: a: c <0.001, d 0.500; b: c 0.700, d 0.000"
    shown = "two: A question, $1? Paris 0.900, Rome <0.001; Another 5 0.700, 4 0.100. false: 5"
    assert DRAWN["grouped bars"]().alt == shown
    shown = "p The none, sun <0.001, sets 1.000. Marked: sun. Grey, not counted: the first 1"
    assert DRAWN["token bars without a first"]().alt == shown
    assert DRAWN["uses"]().alt.endswith("in the fridge → fridge?, GTG GAG → usually GAG")
    assert DRAWN["sequences"]().alt.startswith("two: DNA ATG ? → next; a long name C C ( =")


def test_looks_says_who_looks_and_at_whom_most():
    picture = plots.looks([" it", " sat", " down"], [0.25, 0.75, 0], 1)
    assert picture.alt == "'sat' looks most at 'sat': it 0.250, sat 0.750, down 0.000"


def test_aspirin_has_the_atoms_of_its_string():
    letters = [t.get_text() for t in plots.aspirin().axes[0].texts if t.get_text().isalpha()]
    # each atom twice, in the drawing and in the string: C9 H8 O4, hydrogens left out
    assert sorted(letters) == sorted("CCOOccccccCOO" * 2)


def test_the_map_leaves_later_boxes_dark():
    patches = {
        here: [p.get_facecolor()[:3] for p in plots.course_map(here).axes[0].patches]
        for here in ("00", "08")
    }
    dark = to_rgb(plots.COLOURS["text"])
    assert patches["00"].count(dark) == 8  # boxes: all notebooks are still to come
    assert patches["08"].count(dark) == 0
