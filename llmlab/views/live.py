"""A panel of controls around one function: the "Try it" of every notebook."""

from collections.abc import Callable
from typing import Any

from llmlab.views.view import View


class Live(View):
    """An ipywidgets panel in a live notebook; one sentence where no kernel runs."""

    def __init__(self, panel: Any, text: str) -> None:
        super().__init__("", text)
        self.panel = panel

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The widget, and the sentence for where there is none."""
        if hasattr(self.panel, "_repr_mimebundle_"):  # ipywidgets 8
            bundle = self.panel._repr_mimebundle_() or {}
        else:  # ipywidgets 7, as in Colab
            view = {"version_major": 2, "version_minor": 0, "model_id": self.panel.model_id}
            bundle = {"application/vnd.jupyter.widget-view+json": view}
        return {**bundle, "text/plain": self.text}


def live(function: Callable[..., Any], **controls: Any) -> Live:
    """Controls that call `function` again at every change and show what it returns.

    The same without the widget: call `function` yourself with values of your own.

    Args:
        function: takes the controls' values by name and returns something that displays itself.
        **controls: as for `ipywidgets.interact`: a string gives a text field, a number or a
            (low, high) pair a slider, a list a menu; or any ipywidgets control.

    Returns:
        A view with the panel; its text names the line of code that does the same.

    >>> live(lambda text: text.upper(), text="abc").text
    "A panel to play with (it needs a running kernel). As code: function(text='abc')"
    """
    import ipywidgets  # a slow import, and only notebooks need it

    panel = ipywidgets.interactive(function, **controls)
    values = {name: child.value for name, child in zip(controls, panel.children, strict=False)}
    call = ", ".join(f"{name}={value!r}" for name, value in values.items())
    name = getattr(function, "__name__", "function")
    name = "function" if name == "<lambda>" else name
    return Live(panel, f"A panel to play with (it needs a running kernel). As code: {name}({call})")
