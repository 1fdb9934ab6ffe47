"""What is compared: PyTorch with our fp32 graph, our graphs with themselves in other batches, float16 with fp32."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.parity_graphs import OurModel, Source, random_head
from benchmarks.parity_result import Row
from benchmarks.parity_rounding import RoundingModel
from benchmarks.parity_texts import LONG_TOKENS, Rows, Sample, mixed_batches, similar_batches
from benchmarks.parity_torch import TorchModel
from benchmarks.peers.models import Kind
from distillery_runtime.errors import ProviderError
from distillery_runtime.models.cuda import cuda_is_installed
from distillery_runtime.models.stage import BATCH_TOKENS
from distillery_runtime.tokens.window import token_batches

Floats = NDArray[np.float32]
Answers = Callable[[Rows], Floats]

# With PyTorch: fused operators and folded scales round elsewhere. With itself in another batch: sums in another order,
# and in int8 one activation that rounds to its neighbour.
TORCH_LIMIT, FP32_BATCH_LIMIT, INT8_BATCH_LIMIT = 5e-5, 1e-4, 0.1
HALF_LIMIT = 0.01  # mean over articles and outputs, on the scale of scores
LONG_WINDOW = 1024
TORCH_BATCHES = 6  # padded batches that PyTorch answers too; ours answers them all


@dataclass(frozen=True, slots=True)
class Reference:
    """PyTorch's answers in fp32, (N, K), and the head that they were made with, None for an encoder.

    `alone`: one text at a time. `padded`: those in the first `TORCH_BATCHES` of `batches`. `long`, `long_batch`: the
    same for texts beyond the sliding window.
    """

    head: Floats | None
    batches: Sequence[Sequence[int]]
    alone: Floats
    padded: Floats
    long: Floats | None
    long_batch: Floats | None


def torch_reference(folder: Path, kind: Kind, sample: Sample) -> Reference:
    """Runs PyTorch on all that is compared with it."""
    model = TorchModel(folder, kind)
    head = random_head(model.in_batches(alone(sample.tuning))) if kind == "decoder" else None
    batches = mixed_batches(len(sample.rows), seed=0)

    def answers(parts: Sequence[Rows]) -> Floats:
        pooled = model.in_batches(parts)
        return pooled if head is None else pooled @ head.T

    return Reference(
        head=head,
        batches=batches,
        alone=answers(alone(sample.rows)),
        padded=answers(picked(sample.rows, batches[:TORCH_BATCHES])),
        long=answers(alone(sample.long)) if sample.long else None,
        long_batch=answers([sample.long_batch]) if sample.long else None,
    )


def alone(rows: Rows) -> list[Rows]:
    """Each row as a batch."""
    return [[row] for row in rows]


def picked(rows: Rows, batches: Sequence[Sequence[int]]) -> list[Rows]:
    """The rows of each batch."""
    return [[rows[index] for index in batch] for batch in batches]


def fp32_rows(model: OurModel, sample: Sample, reference: Reference) -> tuple[list[Row], Floats]:
    """Our fp32 graph beside PyTorch and beside itself.

    Returns:
        The rows, and the graph's answers to one text at a time.
    """
    rows, batches, expected = sample.rows, reference.batches, reference.alone
    mixed = [index for batch in batches for index in batch]
    single = model.in_batches(alone(rows))
    padded = model.in_batches(picked(rows, batches))
    first = mixed[: len(reference.padded)]
    some = [rows[index] for index in first]
    ours, theirs = "cpu-fp32", "pytorch fp32"
    found = [
        difference(ours, theirs, "both alone", rows, single, expected, TORCH_LIMIT),
        difference(ours, theirs, "ours padded, PyTorch alone", rows, padded, expected[mixed], TORCH_LIMIT),
        difference(ours, theirs, "both padded", some, padded[: len(first)], reference.padded, TORCH_LIMIT),
        difference(theirs, theirs, "padded and alone", some, reference.padded, expected[first]),
        difference(ours, ours, "padded and alone", rows, padded, single[mixed], FP32_BATCH_LIMIT),
    ]
    return found, single


def long_rows(model: OurModel, sample: Sample, reference: Reference) -> list[Row]:
    """Our fp32 graph for long windows beside PyTorch, on texts beyond the sliding window."""
    if reference.long is None or reference.long_batch is None:
        return []
    single, padded = model.in_batches(alone(sample.long)), model.answers(sample.long_batch)
    ours, theirs, name = "cpu-fp32", "pytorch fp32", f"{LONG_TOKENS} tokens"
    return [
        difference(ours, theirs, f"{name}, both alone", sample.long, single, reference.long, TORCH_LIMIT),
        difference(
            ours, theirs, f"up to {name}, both padded", sample.long_batch, padded, reference.long_batch, TORCH_LIMIT
        ),
    ]


def int8_rows(model: OurModel, sample: Sample, exact: Floats) -> list[Row]:
    """Our int8 graph beside fp32, and beside itself: with other batch mates, and batched as the runtime does it."""
    rows, ours = sample.rows, "cpu-int8"
    single = model.in_batches(alone(rows))
    found = [difference(ours, "cpu-fp32", "both alone", rows, single, exact)]
    tokens = [len(row.ids) for row in rows]
    batchings = {
        "padded in random batches, and alone": mixed_batches(len(rows), seed=0),
        "padded in batches of similar length, and alone": similar_batches(tokens),
        f"batches of {BATCH_TOKENS} tokens as the runtime makes them, and alone": token_batches(tokens, BATCH_TOKENS),
    }
    for setting, batches in batchings.items():
        order = [index for batch in batches for index in batch]
        padded = model.in_batches(picked(rows, batches))
        found.append(difference(ours, ours, setting, rows, padded, single[order], INT8_BATCH_LIMIT))
    return found


def half_rows(source: Source, folder: Path, sample: Sample, exact: Floats, threads: int) -> Iterator[Row]:
    """The float16 graph beside fp32: with the residual stream divided as the exporter does, and without."""
    for scale in dict.fromkeys((source.half_scale, 1.0)):
        held = scale == source.half_scale
        path = source.build_half(folder / f"half-{scale:g}.onnx", np.float16, scale)
        answers, where = _open_half(path, folder, threads)
        found = np.concatenate([answers([row]) for row in sample.rows])
        finite = np.isfinite(found).all(axis=1)
        apart = np.abs(found[finite].astype(np.float64) - exact[finite])
        mean = float(apart.mean()) if finite.any() else None
        yield {
            "form": "cuda-fp16",
            "against": "cpu-fp32",
            "setting": f"residual stream divided by {scale:g}; {where}",
            "residual_scale": scale,
            "largest_residual_fp32": source.largest_residual,
            "non_finite_articles": int(np.sum(~finite)),
            "largest_difference": float(apart.max()) if finite.any() else None,
            "mean_difference": mean,
            "mean_limit": HALF_LIMIT if held else None,
            "holds": bool(finite.all() and mean is not None and mean <= HALF_LIMIT) if held else None,
            **lengths(sample.rows),
        }


def _open_half(path: Path, folder: Path, threads: int) -> tuple[Answers, str]:
    if cuda_is_installed():
        try:
            return OurModel(path, "decoder", threads, "cuda").answers, "on CUDA"
        except ProviderError:
            pass  # onnxruntime was built with CUDA, but this machine has none
    return RoundingModel(path, folder / "rounding.onnx", threads).answers, "every result rounded to float16, on a CPU"


def difference(
    form: str, against: str, setting: str, rows: Rows, found: Floats, expected: Floats, limit: float | None = None
) -> Row:
    """One comparison of outputs (N, K) for some rows: largest and mean absolute difference, and the outputs' spread."""
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    largest = float(apart.max())
    return {
        "form": form,
        "against": against,
        "setting": setting,
        "largest_difference": largest,
        "mean_difference": float(apart.mean()),
        "limit": limit,
        "share_within_limit": None if limit is None else float((apart <= limit).mean()),
        "holds": None if limit is None else largest <= limit,
        "outputs_mean": float(expected.mean()),
        "outputs_deviation": float(expected.std(axis=0).mean()),
        **lengths(rows),
    }


def lengths(rows: Rows) -> dict[str, int]:
    """How many texts a comparison is made on, and their tokens."""
    tokens = sorted(len(row.ids) for row in rows)
    return {
        "articles": len(rows),
        "tokens_shortest": tokens[0],
        "tokens_median": tokens[len(tokens) // 2],
        "tokens_longest": tokens[-1],
    }
