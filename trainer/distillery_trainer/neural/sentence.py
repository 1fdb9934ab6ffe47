"""Sentence encoders with the modules of sentence-transformers: what a folder says after its transformer."""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from torch import Tensor, nn

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.models.sentence_models import Reading
from distillery_trainer.neural.loading import load_encoder


class SentenceModel(nn.Module):
    """A folder's modules as one function of token ids. `encoder`: the transformer among them, in float32.

    The library's own loader is not used for the transformer: it fills missing weights with noise.

    Args:
        folder: what sentence-transformers saved.
        reading: what it says.

    Raises:
        InputError: not all of the weights are there.
    """

    def __init__(self, folder: Path, reading: Reading) -> None:
        super().__init__()
        encoder = load_encoder(folder)
        modules: list[nn.Module] = [_Transformer(encoder), Pooling(int(encoder.config.hidden_size), reading.pooling)]
        try:
            modules += [Dense.load(str(folder), subfolder=one.path, local_files_only=True) for one in reading.dense]
        except Exception as error:  # what the library raises for a damaged file shares no base but Exception
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            problem = Problem("Dense", f"cannot be loaded ({reason})", "weights that fit its config.json")
            raise InputError(str(folder), [problem]) from error
        modules += [Normalize()] if reading.normalise else []
        self.encoder = encoder
        self.whole = SentenceTransformer(modules=modules, device="cpu")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """From input_ids and attention_mask, (B, T) int64, to embeddings, (B, H) float32."""
        embeddings: Tensor = self.whole({"input_ids": input_ids, "attention_mask": attention_mask})[
            "sentence_embedding"
        ]
        return embeddings


class _Transformer(nn.Module):
    """An encoder as the library's modules expect it: token states for those that follow."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:  # Any: what modules add for one another
        outputs = self.encoder(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        return features | {"token_embeddings": outputs.last_hidden_state}
