"""The tree of a beam search: what it says, how it is drawn, what it refuses."""

import pytest
from matplotlib.colors import to_hex

from llmlab import LabError, plots

STEPS = [
    [(["he"], -1.0, True), (["it"], -1.7, True), (["she"], -2.0, False)],
    [(["he", " was"], -2.1, True), (["it", " was"], -1.9, True), (["he", " had"], -3.0, False)],
]


def boxes(figure):
    """Label of each box -> (its edge colour, its place)."""
    return {
        one.get_text(): (to_hex(one.get_bbox_patch().get_edgecolor()).upper(), one.get_position())
        for one in figure.axes[0].texts
    }


def test_the_alt_text_names_what_is_kept_likeliest_first():
    figure = plots.beam_tree("because", STEPS, title="It wins")
    assert figure.alt == "It wins. Kept at the end: 'it was' -1.90, 'he was' -2.10."
    assert plots.beam_tree("because", STEPS, alt="mine").alt == "mine"


def test_the_winners_way_stands_out_and_each_column_is_sorted():
    shown = boxes(plots.beam_tree("because", STEPS))
    assert shown.keys() == {
        "because", "he  -1.0", "it  -1.7", "she  -2.0", "he was  -2.1", "it was  -1.9",
        "he had  -3.0",
    }  # fmt: skip
    key, kept, gone = (plots.COLOURS[name] for name in ("key", "probability", "masked"))
    assert shown["it  -1.7"][0] == shown["it was  -1.9"][0] == key
    assert shown["he  -1.0"][0] == shown["he was  -2.1"][0] == kept
    assert shown["she  -2.0"][0] == shown["he had  -3.0"][0] == gone
    second = [shown[name][1] for name in ("it was  -1.9", "he was  -2.1", "he had  -3.0")]
    assert len({x for x, _ in second}) == 1
    assert [y for _, y in second] == sorted((y for _, y in second), reverse=True)


def test_a_line_leads_from_each_text_to_the_one_that_it_continues():
    figure = plots.beam_tree("because", STEPS)
    places = {name: place for name, (_, place) in boxes(figure).items()}
    ends = [tuple(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines]
    assert len(ends) == 6
    assert (places["it  -1.7"], places["it was  -1.9"]) in ends
    assert (places["because"], places["she  -2.0"]) in ends


def test_a_line_break_and_a_dollar_are_seen():
    labels = boxes(plots.beam_tree("for", [[(["\n"], -1.0, True), (["$"], -2.0, True)]]))
    assert {"⏎  -1.0", r"\$  -2.0"} <= labels.keys()


@pytest.mark.parametrize("steps", [[], [[]], [[(["he"], -1.0, False)]]])
def test_a_tree_that_keeps_nothing_is_refused(steps):
    with pytest.raises(LabError, match="the last must keep a text"):
        plots.beam_tree("because", steps)
