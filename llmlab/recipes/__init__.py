"""How the models that ship with this package were made: one module a model, each runnable.

`python -m llmlab.recipes.gpt2_mini` fetches the data, trains, measures and writes the folder of the
model with its card.
"""
