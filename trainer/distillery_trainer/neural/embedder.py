"""Texts to embeddings with a frozen encoder: what the probe's head learns from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.base_model import check_layers, check_window, resolve
from distillery_trainer.models.sentence_models import check_sentence_model
from distillery_trainer.neural.loading import load_encoder
from distillery_trainer.neural.running import pool, ready, run_in_batches


class TorchEmbedder:
    """A frozen encoder with its window. `folder` holds its files.

    Raises:
        InputError: the model is not usable, reads fewer tokens than the window may give, or asks for what would be left
            out (see `sentence_models`).
        ProviderError: the Hub cannot be reached.
    """

    def __init__(
        self,
        model: str,
        revision: str,
        window: Window,
        prefix: str = "",
        pooling: Literal["mean", "cls"] = "mean",
        layers: Sequence[int] = (),
    ) -> None:
        self.folder: Path = resolve(model, revision)
        check_window(self.folder, window)
        check_sentence_model(model, self.folder, pooling, prefix, frozen_tokens=window.max_tokens)
        self.window = TokenWindow(self.folder / "tokenizer.json", window, prefix)
        self._pooling = pooling
        encoder = load_encoder(self.folder)
        check_layers(model, layers, int(encoder.config.num_hidden_layers))
        self._layers = tuple(layers)
        self._width = int(encoder.config.hidden_size) * max(1, len(layers))
        self._encoder = ready(encoder)

    def embed(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Gives each text's embedding.

        Args:
            progress: callback for the number of texts in the batch just done.

        Returns:
            (N, H) float32, rows in the order of `texts`: of length 1, or a vector of length 1 for each of `layers`.

        Raises:
            ModelError: a value is not finite.
        """
        if not texts:
            return np.empty((0, self._width), dtype=np.float32)
        return run_in_batches(self._run, self.window.encode(texts), after_batch=progress)

    def _run(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        outputs = self._encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=bool(self._layers)
        )
        states = [outputs.hidden_states[n] for n in self._layers] or [outputs.last_hidden_state]
        pooled = [pool(one, attention_mask, self._pooling) for one in states]
        return torch.cat([torch.nn.functional.normalize(one, dim=1) for one in pooled], dim=1)
