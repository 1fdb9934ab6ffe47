"""The kinds of model a stage can be trained as; each module gives `fit` and `load`."""
