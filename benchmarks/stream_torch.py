"""The same cascade in PyTorch, as one would write it there: batches padded to a fixed length, in turns with a bundle.

Text handling, prefilter, token ids, calibration, thresholds and verdicts are the runtime's own; only the models differ:
fp32, sdpa attention, every batch padded to the same length.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.parity_result import Row, news
from distillery_runtime import HybridScorer, Score
from distillery_runtime.articles.admission import Refused, read_entry
from distillery_runtime.articles.jsonl import BadLine, read_jsonl
from distillery_runtime.articles.text import compose
from distillery_runtime.bench.timing import Spread, spread
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.format.variants import REFERENCE
from distillery_runtime.models.stage import StageOutput
from distillery_runtime.scoring.cascade import CascadeRunner, Waiting
from distillery_runtime.spec.calibration import ReadOut
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.tokens.window import TokenIds, TokenWindow, pad
from distillery_trainer.models.choose import STATIC, load_merged_decoder, load_student, reopen_embedder
from distillery_trainer.models.heads import load_head

TARGET = 2.5

Floats = NDArray[np.float32]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Scoring = Callable[[Sequence[object]], list[Score]]


@dataclass(frozen=True, slots=True)
class TorchStage:
    """A stage's model: token ids by `window`, raw outputs by `forward` and `head`, answers by `read_out`."""

    window: TokenWindow
    forward: Forward
    head: Callable[[Floats], Floats]
    read_out: ReadOut
    padded_tokens: int
    batch: int

    def scores(self, rows: Sequence[TokenIds]) -> Floats:
        """What decides, as `StageOutput.rows`, in the rows' order, from batches in that order."""
        parts = [self._run(rows[i : i + self.batch]) for i in range(0, len(rows), self.batch)]
        raw = self.head(np.concatenate(parts))
        expected, scores = self.read_out.apply(raw)
        return StageOutput(raw, expected, scores).rows

    @torch.inference_mode()
    def _run(self, rows: Sequence[TokenIds]) -> Floats:
        ids, mask = pad(rows)
        more = ((0, 0), (0, self.padded_tokens - ids.shape[1]))
        ids, mask = np.pad(ids, more), np.pad(mask, more)
        values: Floats = self.forward(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()
        return values


class TorchCascade:
    """A run's cascade in PyTorch, with the thresholds of a bundle that was made from it."""

    def __init__(self, scorer: HybridScorer, stages: Sequence[TorchStage]) -> None:
        self._cascade = CascadeRunner(scorer.spec, scorer.stages, scorer.bundle)
        self._policy = scorer.spec.text
        self._stages = stages

    def score(self, records: Sequence[object]) -> list[Score]:
        """A result for each record, in order."""
        results: list[Score | None] = [None] * len(records)
        texts: dict[int, str] = {}
        waiting: list[Waiting] = []
        for place, entry in enumerate(map(read_entry, records)):
            if isinstance(entry, Refused):
                results[place] = self._cascade.refuse(entry.id, entry.reason)
                continue
            text = compose(entry, self._policy)
            outcome = self._cascade.admit(place, entry, text)
            if isinstance(outcome, Score):
                results[place] = outcome
            else:
                waiting.append(outcome)
                texts[place] = text.joined
        for depth, stage in enumerate(self._stages):
            if waiting:
                waiting = self._answer(depth, stage, waiting, texts, results)
        return [result for result in results if result is not None]

    def _answer(
        self,
        depth: int,
        stage: TorchStage,
        waiting: Sequence[Waiting],
        texts: dict[int, str],
        results: list[Score | None],
    ) -> list[Waiting]:
        """Writes the results that a stage decides, and gives the articles that go on."""
        places = [item.place for item in waiting]
        rows = dict(zip(places, stage.window.encode([texts[place] for place in places]), strict=True))
        decided = self._cascade.decide(depth, waiting, rows, stage.scores([rows[place] for place in places]))
        onward = []
        for item, result in zip(waiting, decided, strict=True):
            results[item.place] = result
            if result is None:
                onward.append(item)
        return onward


def why_not(spec: FilterSpec) -> str | None:
    """Why a cascade has no equivalent in PyTorch, or None where it has one."""
    if spec.student.backend == STATIC:
        return "the student is a token table, which is not run by PyTorch"
    if spec.cascade.probe.embedder == STATIC:
        return "the probe stands on a token table, which is not run by PyTorch"
    return None


def open_torch_cascade(
    scorer: HybridScorer, bundle: Path, run: Path, batch: int, padded_tokens: int | None
) -> tuple[TorchCascade, list[TorchStage]]:
    """Opens a run's probe and student.

    Args:
        scorer: the bundle, loaded.
        bundle: the bundle's folder.
        run: the folder of the run that it was made from.
        batch: articles of a batch.
        padded_tokens: what batches are padded to; by default each stage's window.

    Raises:
        InputError: the run is not complete, or a model is gone.
    """
    spec, calibration = scorer.spec, open_bundle(bundle).calibration

    def stage(name: str, window: TokenWindow, forward: Forward, head: Callable[[Floats], Floats]) -> TorchStage:
        read_out = calibration.read_out(name, REFERENCE.name)
        if read_out is None:
            raise ValueError(f"stage {name}: no calibration of {REFERENCE.name}")
        length = max(padded_tokens or 0, window.window.max_tokens)
        return TorchStage(window, forward, head, read_out, length, batch)

    # Both keep their model to themselves, for they pad to the longest row. Any: so that they may be asked for it.
    embedder: Any = reopen_embedder(spec.cascade.probe, run / "probe")
    load = load_merged_decoder if spec.student.backend == "decoder" else load_student
    student: Any = load(spec, run / "student")
    stages = [
        stage("probe", embedder.window, embedder._run, load_head(run / "probe" / "head.safetensors").predict),
        stage("student", student.window, student._model, lambda raw: raw),
    ]
    return TorchCascade(scorer, stages), stages


def compare(
    scorer: HybridScorer, cascade: TorchCascade, stages: Sequence[TorchStage], records: Sequence[object]
) -> Row:
    """Scores records by both, chunk by chunk in turns, and says how much faster ours is and how far they agree.

    A chunk is one batch of PyTorch's. Ours scores it by `score_batch`, which overlaps no steps: one thread in both.
    """
    size = stages[0].batch
    chunks = [records[i : i + size] for i in range(0, len(records), size)]
    scorer.score_batch(chunks[0])
    cascade.score(chunks[0])
    ours: list[Score] = []
    theirs: list[Score] = []
    seconds: list[tuple[float, float]] = []
    for number, chunk in enumerate(chunks):
        turns: list[tuple[int, Scoring, list[Score]]] = [(0, scorer.score_batch, ours), (1, cascade.score, theirs)]
        taken = [0.0, 0.0]
        for index, score, results in turns if number % 2 else reversed(turns):
            began = time.perf_counter()
            results.extend(score(chunk))
            taken[index] = time.perf_counter() - began
        seconds.append((taken[0], taken[1]))
        news(f"chunk {number + 1} of {len(chunks)}: ours {taken[0]:.2f} s, PyTorch {taken[1]:.2f} s")
    return {
        "part": "beside PyTorch",
        "articles": len(records),
        "chunks": len(chunks),
        "batch": size,
        **{f"{stage.name}_variant": stage.variant for stage in scorer.stages},
        **{f"{s.name}_window_tokens": t.window.window.max_tokens for s, t in zip(scorer.stages, stages, strict=True)},
        **{f"{s.name}_padded_tokens": t.padded_tokens for s, t in zip(scorer.stages, stages, strict=True)},
        **_speed(seconds, len(records)),
        **agreement(ours, theirs),
    }


def _speed(seconds: Sequence[tuple[float, float]], articles: int) -> Row:
    ours, theirs = (sum(column) for column in zip(*seconds, strict=True))
    # A chunk of articles that the prefilter blocks takes no time to speak of in either.
    ratios: Spread | None = spread([theirs / ours for ours, theirs in seconds])
    assert ratios is not None  # there is a chunk at least
    return {
        "ours_articles_per_s": articles / ours,
        "pytorch_articles_per_s": articles / theirs,
        "times_as_fast": theirs / ours,
        "times_as_fast_chunks_p10": ratios.p10,
        "times_as_fast_chunks_p50": ratios.p50,
        "times_as_fast_chunks_p90": ratios.p90,
        "target": TARGET,
        "holds": theirs / ours >= TARGET,
    }


def agreement(ours: Sequence[Score], theirs: Sequence[Score]) -> Row:
    """How far results agree: shares of all articles, and differences of the overall where both scored."""
    pairs = list(zip(ours, theirs, strict=True))
    apart = [abs(a.overall - b.overall) for a, b in pairs if a.overall is not None and b.overall is not None]
    return {
        "same_status": sum(a.status == b.status for a, b in pairs) / len(pairs),
        "same_stage": sum(a.stage == b.stage for a, b in pairs) / len(pairs),
        "same_tier": sum(a.tier == b.tier for a, b in pairs) / len(pairs),
        "scored_by_both": len(apart),
        "decided_by_last_stage": sum(a.stage == "student" for a in ours),
        "overall_mean_difference": sum(apart) / len(apart) if apart else None,
        "overall_largest_difference": max(apart, default=None),
    }


def sample_records(articles: Path, count: int) -> list[object]:
    """Some articles of a file, at random and always the same."""
    with articles.open("rb") as stream:
        records = [record for record in read_jsonl(stream) if not isinstance(record, BadLine)]
    chosen: list[object] = list(random.Random(0).sample(records, min(count, len(records))))
    return chosen
