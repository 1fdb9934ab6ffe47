"""sentence-transformers, its pass without the tokenizer: `model.forward` on features.

Options: `backend`, "torch" or "onnx"; `form` of the latter: none for its plain export, "O3" for optimum's fused fp32,
"int8" for its dynamic quantisation, as the library's guide shows them.
"""

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.peers.kept import digest, digest_of_weights, kept
from benchmarks.peers.workers.protocol import Opening, Vector, serve

Features = dict[str, torch.Tensor]
CONVERTING = ("sentence-transformers", "transformers", "torch", "optimum-onnx")
EXPORTED = {None: "onnx/model.onnx", "O3": "onnx/model_O3.onnx", "int8": "onnx/model_qint8_avx512_vnni.onnx"}


class SentencePeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        torch.set_num_threads(opening.threads)
        torch.set_num_interop_threads(1)
        if opening.options["backend"] == "onnx":
            self._model = _with_onnx(opening)
        else:
            self._model = SentenceTransformer(
                str(opening.model), device="cpu", model_kwargs={"attn_implementation": "sdpa"}, local_files_only=True
            )

    def prepare(self, ids: Sequence[int]) -> Features:
        """As in `Peer`."""
        row = torch.tensor([ids], dtype=torch.int64)
        return {"input_ids": row, "attention_mask": torch.ones_like(row), "token_type_ids": torch.zeros_like(row)}

    @torch.inference_mode()
    def forward(self, inputs: Features) -> torch.Tensor:
        """As in `Peer`."""
        embedding: torch.Tensor = self._model(inputs)["sentence_embedding"][0]
        return embedding

    def output(self, result: torch.Tensor) -> Vector:
        """As in `Peer`."""
        values: list[float] = result.tolist()
        return values


def _with_onnx(opening: Opening) -> SentenceTransformer:
    form = opening.options.get("form")
    key = digest([version(package) for package in CONVERTING], digest_of_weights(opening.model))
    folder = kept(opening.work / "sentence-transformers", key, lambda place: _export(opening, place))
    if not (folder / EXPORTED[form]).exists():
        _transform(_load(folder, opening.threads, file_name=EXPORTED[None]), folder, form)
    return _load(folder, opening.threads, file_name=EXPORTED[form])


def _export(opening: Opening, folder: Path) -> None:
    """Copies the checkpoint, beside which the library writes its graphs, and writes its plain export."""
    shutil.copytree(opening.model, folder, dirs_exist_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # which older transformers can name
    path.write_text(json.dumps(config), encoding="utf-8")
    _load(folder, opening.threads, export=True).save_pretrained(str(folder))


def _transform(model: SentenceTransformer, folder: Path, form: str | None) -> None:
    from sentence_transformers import export_dynamic_quantized_onnx_model, export_optimized_onnx_model

    if form == "O3":
        export_optimized_onnx_model(model, "O3", str(folder))
    else:
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))


def _load(folder: Path, threads: int, **where: str | bool) -> SentenceTransformer:
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {"provider": "CPUExecutionProvider", "session_options": options, **where}
    return SentenceTransformer(str(folder), device="cpu", backend="onnx", model_kwargs=settings, local_files_only=True)


if __name__ == "__main__":
    serve(SentencePeer, ("sentence-transformers", "transformers", "torch"))
