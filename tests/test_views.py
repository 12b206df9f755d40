"""The views, the set-up cell's call and the error: what a reader gets to see.

Coloured tokens have a test of their own.
"""

import functools
import os
import random
import subprocess
import sys

import ipywidgets
import numpy
import pandas
import pytest
import torch
import transformers
from matplotlib.figure import Figure

import llmlab
from llmlab import LabError, plots
from llmlab.views import View, live, prediction

WIDGET = "application/vnd.jupyter.widget-view+json"


def test_a_view_shows_html_and_the_same_as_text():
    view = View("<b>7</b> tokens", "7 tokens")
    assert view._repr_mimebundle_() == {"text/html": "<b>7</b> tokens", "text/plain": "7 tokens"}
    assert repr(view) == "7 tokens"


# ---- live --------------------------------------------------------------------------------------


def shout(text, times=1):
    return text.upper() * times


def shown(panel):
    """What stands below the controls."""
    return panel.panel.children[-1].value


def test_a_panel_shows_the_result_at_once_and_after_each_change():
    panel = live(shout, text="abc", times=(1, 3))
    text, times = panel.panel.children[:2]
    assert (text.description, times.description) == ("text", "times")
    assert shown(panel) == "<pre>ABCABC</pre>"
    text.value = "<b>"
    assert shown(panel) == "<pre>&lt;B&gt;&lt;B&gt;</pre>"
    times.value = 1
    assert shown(panel) == "<pre>&lt;B&gt;</pre>"


def test_a_panel_is_a_widget_with_a_sentence_in_its_place():
    panel = live(shout, text="abc")
    bundle = panel._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] == panel.panel.model_id
    assert bundle["text/plain"] == panel.text
    assert panel.text.endswith("As code: shout(text='abc')")
    assert eval(panel.text.split("As code: ")[1]) == "ABC"


@pytest.mark.parametrize(
    ("returned", "html"),
    [
        (View("<i>7</i>", "7"), "<i>7</i>"),
        (pandas.DataFrame({"token": ["a"]}), "<td>a</td>"),
        (1.5, "<pre>1.5</pre>"),
        (["a"], "<pre>[&#x27;a&#x27;]</pre>"),
        (Figure(), "<pre>Figure(640x480)</pre>"),
        (plots.bars(["a"], [1], alt="a is 1"), '<img alt="a is 1"'),
    ],
)
def test_a_panel_shows_whatever_displays_itself(returned, html):
    assert html in shown(live(lambda n: returned, n=1))


def test_a_panel_shows_what_is_printed_and_stays_out_of_the_cell(capsys):
    assert shown(live(lambda n: print("n is", n), n=5)) == "<pre>n is 5\n</pre>"
    assert capsys.readouterr().out == ""


def test_a_panel_survives_an_error_and_says_it():
    panel = live(lambda n: 10 // n, n=(-2, 2))
    assert shown(panel) == "<p>ZeroDivisionError: integer division or modulo by zero</p>"
    panel.panel.children[0].value = 2
    assert shown(panel) == "<pre>5</pre>"

    def lost(name):
        raise LabError("No model 'gtp2' here.")

    assert shown(live(lost, name="gtp2")) == "<p>No model &#x27;gtp2&#x27; here.</p>"


def test_controls_may_be_lists_and_widgets_and_nothing_else():
    menu = live(shout, text=["one", "two"])
    assert isinstance(menu.panel.children[0], ipywidgets.Dropdown)
    assert shown(live(shout, text=ipywidgets.Textarea("long"))) == "<pre>LONG</pre>"
    for odd in (None, (3, 1), (1, 2, 3, 4)):
        with pytest.raises(LabError, match="No widget suits text="):
            live(shout, text=odd)


def test_a_panel_needs_a_function_and_takes_every_kind():
    with pytest.raises(LabError, match="needs the function itself, not 'ABC'"):
        live(shout("abc"), text="abc")
    assert live(functools.partial(shout, times=2), text="a").text.endswith("function(text='a')")


# ---- prediction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guess", "actual", "unit", "text"),
    [
        (None, 7, "tokens", "Result: 7 tokens. (No guess yet: put yours in place of None"),
        (7, 7, "tokens", "Your guess: 7 tokens. Result: 7 tokens. You saw it coming."),
        (9, 7, "tokens", "Your guess: 9 tokens. Result: 7 tokens, 2 less than you thought."),
        (0.5, 0.771, "", "Your guess: 0.5. Result: 0.771, 0.271 more than you thought."),
        ("Rome", "Paris", "", "Your guess: Rome. Result: Paris. Not what you thought."),
        (True, False, "", "Your guess: True. Result: False. Not what you thought."),
        ("seven", 7, "tokens", "Your guess: seven tokens. Result: 7 tokens. Not what"),
    ],
)
def test_prediction(guess, actual, unit, text):
    assert prediction(guess, actual, unit).text.startswith(text)


def test_markup_in_a_guess_stays_text():
    assert prediction("<s>", "</s>").html == (
        "Your prediction\n<p>Your guess: &lt;s&gt;. Result: &lt;/s&gt;. Not what you thought.</p>"
    )


# ---- setup and LabError ------------------------------------------------------------------------


def drawn():
    """A random number of each of the three libraries."""
    return random.random(), float(numpy.random.rand()), float(torch.rand(1))


def test_setup_makes_the_session_repeatable(capsys):
    llmlab.setup()
    first = drawn()
    llmlab.setup()
    assert drawn() == first
    llmlab.setup(1)
    assert all(a != b for a, b in zip(drawn(), first, strict=True))
    assert capsys.readouterr().out.splitlines() == [
        "llmlab is ready. Random numbers start from seed 0.",
        "llmlab is ready. Random numbers start from seed 0.",
        "llmlab is ready. Random numbers start from seed 1.",
    ]


@pytest.mark.parametrize("seed", ["zero", None, 0.5, -1, 2**32])
def test_a_seed_that_is_none_is_said(seed):
    with pytest.raises(LabError, match="A seed is a whole number from 0 to 4294967295"):
        llmlab.setup(seed)


def test_setup_makes_the_session_quiet():
    transformers.utils.logging.enable_progress_bar()
    llmlab.setup()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not transformers.utils.logging.is_progress_bar_enabled()
    assert "0.123" in repr(pandas.DataFrame({"p": [0.12345]}))
    assert "0.1234" not in repr(pandas.DataFrame({"p": [0.12345]}))


def test_a_lab_error_is_one_sentence_in_a_notebook():
    """IPython prints no traceback for it, also when other code is between."""
    code = "import llmlab\ndef f(): raise llmlab.LabError('No model here.')\nf()"
    ran = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.strip() == "LabError: No model here."
    assert "Traceback" not in ran.stdout + ran.stderr
