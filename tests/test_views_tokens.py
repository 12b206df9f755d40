"""Coloured tokens: readable in every theme, without styles, without a pointer."""

import math
import re
from html.parser import HTMLParser

import numpy
import pytest
import torch

from llmlab import LabError
from llmlab.views import View, tokens


def luminance(colour):
    """Relative luminance of #RRGGBB, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


class Boxes(HTMLParser):
    """The boxes of a view: text, attributes and style of each, and the text around them."""

    def __init__(self, html):
        super().__init__()
        self.boxes, self.plain, self.inside = [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "code":
            style = dict(part.split(":", 1) for part in attributes["style"].split(";"))
            self.boxes.append({**attributes, "style": style, "text": ""})
            self.inside = True
        elif tag == "br":
            self.plain += "\n"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "code"

    def handle_data(self, data):
        self.plain += data
        if self.inside:
            self.boxes[-1]["text"] += data


def boxes(view):
    return Boxes(view.html).boxes


def test_every_box_is_dark_ink_on_a_fixed_light_background():
    many = [f"token{i}" for i in range(12)]
    shades = tokens(many, [i / 11 for i in range(12)])
    for box in boxes(tokens(many)) + boxes(shades):
        ink, paper = box["style"]["color"], box["style"]["background"]
        assert contrast(ink, paper) >= 4.5, (ink, paper)
        assert luminance(paper) > 0.3 > luminance(ink)


def test_colour_is_not_the_only_thing_that_tells_tokens_apart():
    first, second = boxes(tokens(["straw", "berry"]))
    assert first["style"]["background"] != second["style"]["background"]
    assert first["style"]["border"].startswith("1px solid #")
    for theme in ["#FFFFFF", "#111111"]:  # the edge is seen on light and dark pages (WCAG: 3 : 1)
        edges = [first["style"]["border"].split()[-1], first["style"]["background"]]
        assert max(contrast(edge, theme) for edge in edges) >= 3


def test_without_styles_the_tokens_still_stand_apart():
    view = tokens(["un", "believ", "able", " news"])
    stripped = Boxes(re.sub(r' style="[^"]*"', ' style="a:b"', view.html)).plain
    assert stripped.startswith("un believ able ␣news")
    assert "<script" not in view.html and "class=" not in view.html  # nothing that must be loaded


def test_ids_and_values_show_on_hover_and_in_the_text():
    view = tokens(["Hello", " you"], [0.25, 0.5], ids=[15496, 345])
    assert [box["title"] for box in boxes(view)] == [
        "id 15496, value 0.25",
        "id 345, value 0.5",
    ]
    assert view.text.endswith("Hello (15496, 0.25) | ␣you (345, 0.5)")
    # and for readers without a pointer, in the page itself
    assert "<details><summary>2 tokens" in view.html
    assert "Hello (15496, 0.25) | ␣you (345, 0.5)</details>" in view.html


def test_without_ids_there_is_no_empty_hover():
    assert all("title" not in box for box in boxes(tokens(["a", "b"])))


def test_the_text_says_how_many_and_lists_all():
    assert repr(tokens(["St", "raw", "berry"])) == "3 tokens: St | raw | berry"
    assert repr(tokens(["one"])) == "1 token: one"
    assert repr(tokens([])) == "0 tokens"
    assert isinstance(tokens([]), View)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" two", "␣two"),
        ("a  b", "a␣␣b"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("", "⟨empty⟩"),
        ("\u00a0", "⟨U+00A0⟩"),  # a space that is no space
        ("\u200b", "⟨U+200B⟩"),
        ("\u202eabc", "⟨U+202E⟩abc"),  # would turn the rest of the page round
        ("\x00", "⟨U+0000⟩"),
        ("\ud83c", "⟨U+D83C⟩"),  # half a character: can't be written to a file
        ("\u0301", "◌\u0301"),  # an accent without its letter
        ("Ġberry", "Ġberry"),  # a tokenizer's own signs stay as they are
        ("👩‍💻", "👩‍💻"),  # the joiner inside an emoji stays, or it would fall apart
        ("字", "字"),
    ],
)
def test_what_leaves_no_mark_gets_a_sign(token, shown):
    view = tokens([token])
    assert view.text == f"1 token: {shown}"
    assert boxes(view)[0]["text"] == shown
    view.html.encode("utf-8")


def test_lines_break_where_the_text_does():
    assert tokens(["def", "\n", "x", "Ċ", "y"]).html.count("<br>") == 2
    assert "<br>" not in tokens(["a", "b"]).html


def test_a_right_to_left_token_keeps_to_its_box():
    assert boxes(tokens(["حقوق", "a"]))[0]["dir"] == "auto"


def test_tokens_are_text_and_never_markup():
    view = tokens(['<img src=x onerror="a()">', "a & b", "<|im_end|>", '"'], ids=[1, 2, 3, 4])
    assert [box["text"] for box in boxes(view)] == [
        '<img␣src=x␣onerror="a()">',
        "a␣&␣b",
        "<|im_end|>",
        '"',
    ]
    assert "<img" not in view.html


def lightness(view):
    return [luminance(box["style"]["background"]) for box in boxes(view)]


def test_larger_values_are_darker_and_smaller_ones_white():
    low, middle, high = lightness(tokens(list("abc"), [0.0, 0.5, 1.0]))
    assert low > middle > high
    assert low == luminance("#FFFFFF")


def test_probabilities_share_one_scale():
    """0.5 looks the same beside 0.1 as beside 0.9, so that two views can be compared."""
    assert (
        lightness(tokens(["a", "b"], [0.5, 0.1]))[0] == lightness(tokens(["a", "b"], [0.5, 0.9]))[0]
    )


def test_other_ranges_run_from_their_smallest_to_their_largest():
    view = tokens(list("abc"), [-3.0, 7.0, 2.0])
    assert lightness(view)[0] == luminance("#FFFFFF")
    assert min(lightness(view)) == lightness(view)[1]
    assert view.text.startswith("3 tokens, shaded from -3 (white) to 7 (blue): a (-3) | b (7)")


def test_odd_values_do_not_break_it():
    assert lightness(tokens(["a", "b"], [5.0, 5.0])) == [1.0, 1.0]  # all the same
    view = tokens(["a", "b"], [math.nan, 1.0])
    assert lightness(view)[0] == 1.0
    assert view.text.endswith("a (nan) | b (1)")
    view = tokens(list("abcd"), [math.inf, 1.0, 2.0, -math.inf])
    assert lightness(view)[0] == lightness(view)[2] == min(lightness(view))
    assert lightness(view)[3] == lightness(view)[1] == 1.0
    assert "a (inf) | b (1)" in view.text


@pytest.mark.parametrize(
    "make", [list, tuple, numpy.array, torch.tensor, lambda row: [torch.tensor(n) for n in row]]
)
def test_ids_and_values_come_as_lists_arrays_or_tensors(make):
    view = tokens(("a", "b"), make([0.5, 1.0]), ids=make([7, 8]))
    assert [box["title"] for box in boxes(view)] == ["id 7, value 0.5", "id 8, value 1"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tokens("a whole text"), "list of tokens"),
        (lambda: tokens([15496, 11]), "convert_ids_to_tokens"),
        (lambda: tokens([["a"], ["b"]]), "one text at a time"),
        (lambda: tokens(["a", "b"], [0.5]), "2 tokens but 1 values"),
        (lambda: tokens(["a", "b"], ids=[1, 2, 3]), "2 tokens but 3 ids"),
        (lambda: tokens(["a", "b"], ids=torch.tensor([[1, 2]])), "ids[0]"),
        (lambda: tokens(["a"], torch.tensor(0.5)), "one number a token"),
        (lambda: tokens(["a"], 0.5), "one number a token"),
        (lambda: tokens(["a", "b"], [None, 0.5]), "float('nan') where"),
        (lambda: tokens(["a"], ["high"]), "one number a token"),
        (lambda: tokens(None), "a list of tokens, not a NoneType"),
    ],
)
def test_mistakes_are_answered_in_words(call, words):
    with pytest.raises(LabError) as error:
        call()
    assert words in str(error.value)


def test_notes_stand_on_hover_and_in_the_list():
    view = tokens(["a", "b"], [0.25, 1.0], ids=[1, 2], notes=["not c", ""])
    assert [box.get("title") for box in boxes(view)] == ["id 1, value 0.25; not c", "id 2, value 1"]
    assert view.text.endswith(": a (1, 0.25; not c) | b (2, 1)")
    alone = tokens(["a", "b"], notes=["<b>", ""])
    assert [box.get("title") for box in boxes(alone)] == ["<b>", None]
    assert alone.text == "2 tokens: a (<b>) | b"
    with pytest.raises(LabError, match="2 tokens but 1 notes"):
        tokens(["a", "b"], notes=["one"])
