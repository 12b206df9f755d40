"""The one call of the set-up cell: the same start for every notebook and every reader."""

import logging
import os
import random

from llmlab.errors import LabError


def setup(seed: int = 0) -> None:
    """Make this session repeatable and quiet: seeds, number formats, one look for pictures.

    Sets the seeds of `random`, NumPy and torch; shows tables with three digits; applies the
    course's matplotlib style; turns off the progress bars of transformers (their timings would
    differ on every run) and the Hub's telemetry. Nothing is downloaded.

    Args:
        seed: where the random numbers start: 0 (as for the stored outputs) to 4294967295.

    Raises:
        LabError: the seed is no such number.

    >>> setup()
    llmlab is ready. Random numbers start from seed 0.
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**32:  # what NumPy takes
        raise LabError(f"A seed is a whole number from 0 to {2**32 - 1}, and {seed!r} is not.")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # tokenizers complains at every fork otherwise, also at that of a `!` line
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Slow imports stand here and not at the top: `import llmlab` must not cost them.
    import numpy
    import pandas
    import torch
    import transformers

    from llmlab import plots

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    transformers.utils.logging.disable_progress_bar()
    # Where it is installed, it warns at its import (by Trainer or peft) of a part it can't find.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    pandas.set_option("display.precision", 3)
    pandas.set_option("display.max_colwidth", 80)
    plots.use_style()
    print(f"llmlab is ready. Random numbers start from seed {seed}.")
