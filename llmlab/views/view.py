"""The object that every view returns."""

from typing import Any


class View:
    """HTML for the notebook, and the same message as text.

    Attributes:
        html: what Jupyter shows.
        text: what a terminal, a screen reader and nbval get.

    >>> View("<b>7</b> tokens", "7 tokens")
    7 tokens
    """

    def __init__(self, html: str, text: str) -> None:
        self.html = html
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Both forms, for Jupyter."""
        return {"text/html": self.html, "text/plain": self.text}
