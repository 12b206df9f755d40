"""What displays itself: coloured tokens, predictions, live panels. Each has a text equivalent.

A view holds HTML and the same message in plain text. The text is what nbval compares, what a
screen reader of a terminal shows, and what remains where HTML does not.
"""

from llmlab.views.attention import attention
from llmlab.views.bertviz import bertviz
from llmlab.views.chat import chat
from llmlab.views.live import live
from llmlab.views.prediction import prediction
from llmlab.views.pronunciation import pronunciation
from llmlab.views.sampler import sampler
from llmlab.views.tokens import tokens
from llmlab.views.view import View

__all__ = [
    "View",
    "attention",
    "bertviz",
    "chat",
    "live",
    "prediction",
    "pronunciation",
    "sampler",
    "tokens",
]
