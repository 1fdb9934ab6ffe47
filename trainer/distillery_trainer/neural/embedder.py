"""Texts to embeddings with a frozen encoder: what a head learns from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.base_model import check_layers, check_window, resolve
from distillery_trainer.models.choose import import_torch_side
from distillery_trainer.models.sentence_models import Pooling, Reading, parts_of, read_embedder
from distillery_trainer.neural.loading import load_encoder
from distillery_trainer.neural.running import pool, ready, run_in_batches


class TorchEmbedder:
    """A frozen encoder with its window. `folder` holds its files.

    A folder of sentence-transformers is opened by that library and answers as `SentenceTransformer.encode` does, on the
    tokens of the window; the states of a plain transformers folder are pooled and brought to length 1.

    Args:
        prefix: what is put before every text; None for the model's default prompt.
        pooling: how token states become one vector; None for as the model says.
        layers: numbers of the hidden layers whose pooled states, of length 1 each, are joined, layer by layer.

    Raises:
        InputError: the model is not usable, reads fewer tokens than the window may give, or asks for what would be left
            out (see `sentence_models`).
        ProviderError: the Hub cannot be reached, or sentence-transformers is not installed.
    """

    def __init__(
        self,
        model: str,
        revision: str,
        window: Window,
        prefix: str | None = None,
        pooling: Pooling | None = None,
        layers: Sequence[int] = (),
    ) -> None:
        self.folder: Path = resolve(model, revision)
        check_window(self.folder, window)
        self._reading = read_embedder(model, self.folder, prefix, pooling, layers, window.max_tokens)
        self.window = TokenWindow(self.folder / "tokenizer.json", window, self._reading.prefix)
        self._model, encoder = _open(self.folder, self._reading)
        check_layers(model, layers, int(encoder.config.num_hidden_layers))
        self._encoder = encoder
        self._width = self._reading.width(int(encoder.config.hidden_size))

    def embed(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Gives each text's embedding.

        Args:
            progress: callback for the number of texts in the batch just done.

        Returns:
            (N, H) float32, rows in the order of `texts`.

        Raises:
            ModelError: a value is not finite.
        """
        if not texts:
            return np.empty((0, self._width), dtype=np.float32)
        return run_in_batches(self._run, self.window.encode(texts), after_batch=progress)

    def _run(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        joined = self._reading.layers
        if not joined and self._reading.is_sentence_model:
            embeddings: Tensor = self._model(input_ids, attention_mask)
            return embeddings
        outputs = self._encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=bool(joined))
        states = [outputs.hidden_states[n] for n in joined] or [outputs.last_hidden_state]
        parts = parts_of(self._reading.pooling)
        pooled = [pool(one, attention_mask, part) for one in states for part in parts]
        return torch.cat([normalize(one, dim=1) for one in pooled], dim=1)


def _open(folder: Path, reading: Reading) -> tuple[torch.nn.Module, Any]:  # Any: an encoder's outputs differ
    """A folder's model, ready to answer, and the transformer in it."""
    if not reading.is_sentence_model or reading.layers:
        encoder = ready(load_encoder(folder))
        return encoder, encoder
    model = ready(import_torch_side("distillery_trainer.neural.sentence").SentenceModel(folder, reading))
    return model, model.encoder
