"""One error for every foreseeable mistake, in the student's words."""


class LabError(Exception):
    """What is wrong, what was expected, and what to do: one message, no traceback needed.

    In a notebook the message stands alone, without the lines of code it passed through.

    >>> raise LabError("No model 'gtp2' here. Did you mean 'gpt2'?")
    Traceback (most recent call last):
    llmlab.errors.LabError: No model 'gtp2' here. Did you mean 'gpt2'?
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython prints for this error: the sentence and nothing else."""
        return [f"LabError: {self}"]
