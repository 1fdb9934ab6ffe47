"""The forms of a model: written, compared, kept or left out."""
