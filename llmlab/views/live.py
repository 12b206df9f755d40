"""A panel of controls around one function: the "Try it" of every notebook."""

import contextlib
import io
from collections.abc import Callable
from html import escape
from typing import Any

from llmlab.errors import LabError
from llmlab.views.view import View


class Live(View):
    """An ipywidgets panel in a live notebook; one sentence where no kernel runs."""

    def __init__(self, panel: Any, text: str) -> None:
        super().__init__("", text)
        self.panel = panel

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The widget, and the sentence for where there is none."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.panel.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": self.text}


def live(function: Callable[..., Any], /, **controls: Any) -> Live:
    """Controls that call `function` again at every change and show what it returns.

    The same without the widget: call `function` yourself with values of your own.

    Args:
        function: takes the controls' values by name and returns something that displays itself.
            What it prints is shown above that, an error in place of it.
        **controls: as for `ipywidgets.interact`: a string gives a text field, a number or a
            (low, high) pair a slider, a list a menu; or any ipywidgets control.

    Returns:
        A view with the panel; its text names the line of code that does the same.

    Raises:
        LabError: the function is none, or a control is of a kind that no widget suits.

    >>> def shout(text):
    ...     return text.upper()
    >>> live(shout, text="abc")
    A panel to play with (it needs a running kernel). As code: shout(text='abc')
    """
    import ipywidgets  # a slow import, and only notebooks need it

    if not callable(function):
        raise LabError(
            f"views.live needs the function itself, not {function!r}. "
            "Write views.live(name_of_your_function, …), without calling it."
        )
    widgets = {}
    for name, control in controls.items():
        widget = None
        with contextlib.suppress(ValueError):  # a pair with the higher number first
            widget = ipywidgets.interactive.widget_from_abbrev(control)
        if widget is None:
            raise LabError(
                f"No widget suits {name}={control!r}. Give a string (text field), a number or a "
                "(low, high) pair (slider), a list (menu), or an ipywidgets control."
            )
        widget.description = widget.description or name
        widgets[name] = widget
    # The result goes into an HTML widget and not into ipywidgets.Output: an Output's content
    # leaks into the cell wherever the front end does not catch it (nbval, some viewers).
    result = ipywidgets.HTML()

    def show(change: Any = None) -> None:
        result.value = _as_html(function, {name: w.value for name, w in widgets.items()})

    for widget in widgets.values():
        widget.observe(show, names="value")
    show()
    name = getattr(function, "__name__", "function")
    call = ", ".join(f"{name}={widget.value!r}" for name, widget in widgets.items())
    text = f"A panel to play with (it needs a running kernel). As code: {name}({call})"
    return Live(ipywidgets.VBox([*widgets.values(), result]), text)


def _as_html(function: Callable[..., Any], values: dict[str, Any]) -> str:
    """What the function prints and returns, as HTML; what it raises, as a sentence."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            shown = _shown(function(**values))
    except LabError as error:
        return f"<p>{escape(str(error))}</p>"
    except Exception as error:  # the panel must live on: say what happened and wait for a change
        return f"<p>{escape(f'{type(error).__name__}: {error}')}</p>"
    above = f"<pre>{escape(printed.getvalue())}</pre>" if printed.getvalue() else ""
    return above + shown


def _shown(answer: Any) -> str:
    """What a function returned, as HTML: its own where it has some, else its text."""
    if answer is None:
        return ""
    html = None
    if hasattr(answer, "_repr_mimebundle_"):
        html = answer._repr_mimebundle_().get("text/html")
    elif hasattr(answer, "_repr_html_"):
        html = answer._repr_html_()  # None for a figure of pyplot
    return html or f"<pre>{escape(str(answer))}</pre>"
