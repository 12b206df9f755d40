"""Tools around the notebooks: `python -m tests.tools.notebooks`, `python -m tests.tools.bench`."""
