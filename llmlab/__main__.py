"""`python -m llmlab`: the command, for those whose PATH does not have it."""

from llmlab.cli import main

main()
