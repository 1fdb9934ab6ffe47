"""How far our graphs on CUDA are from PyTorch in fp32, and what the exporter's gate says of half precision."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.gpu_contenders import Contender, Floats, OurGraph, OurSession, TorchGraph, answers, forget
from benchmarks.gpu_models import MAX_TOKENS, Subject
from benchmarks.gpu_parts import Setting, attempt
from benchmarks.gpu_student import Gate
from benchmarks.parity_checks import alone, lengths, picked
from benchmarks.parity_graphs import OUTPUTS
from benchmarks.parity_result import Row
from benchmarks.parity_texts import mixed_batches
from distillery_exporter.variants.acceptance import Route, compare, objections, refit
from distillery_runtime.format.variants import REFERENCE
from distillery_runtime.models.cuda import bucket_batches
from distillery_runtime.models.session import Graph
from distillery_runtime.models.stage import BATCH_TOKENS, INPUTS
from distillery_runtime.spec.routing import Routing
from distillery_runtime.tokens.window import TokenIds, pad, token_batches
from distillery_trainer.data.predictions import Answers

Rows = Sequence[TokenIds]
Mask = NDArray[np.bool_]
RANKED = 64  # outputs up to which ranks are compared: scores, not the numbers of a pooled state
INVARIANCE_ROWS, INVARIANCE_BATCH = 32, 8


def gap(found: Floats, expected: Floats) -> Row:
    """How far outputs (N, K) are from those expected. `spearman_lowest`: of scores, that of the worst ranked output."""
    finite = np.isfinite(found).all(axis=1)
    apart = np.abs(found[finite].astype(np.float64) - expected[finite])
    ranked = finite.sum() > 2 and found.shape[1] <= RANKED
    ranks = [spearmanr(a, b)[0] for a, b in zip(found[finite].T, expected[finite].T, strict=True)] if ranked else []
    lowest = float(min(ranks, default=np.nan))
    return {
        "largest_difference": float(apart.max()) if finite.any() else None,
        "mean_difference": float(apart.mean()) if finite.any() else None,
        "non_finite": int((~np.isfinite(found)).sum()),
        "spearman_lowest": lowest if np.isfinite(lowest) else None,
        "outputs_deviation": float(expected.std(axis=0).mean()),
    }


def measure_parity(subject: Subject, setting: Setting) -> Iterator[list[Row]]:
    """Each form beside PyTorch in fp32 on the same token ids: texts alone, and in padded batches of mixed lengths."""
    batches = mixed_batches(len(subject.rows), seed=0)
    order = [index for batch in batches for index in batch]
    exact = TorchGraph(subject, torch.float32, setting.device)
    single, padded = alone(subject.rows), picked(subject.rows, batches)
    expected = answers(exact, single), answers(exact, padded)

    def beside(contender: Contender, form: str) -> list[Row]:
        said, together = answers(contender, single), answers(contender, padded)
        pairs = {
            "alone": (said, expected[0]),
            "padded": (together, expected[1]),
            "padded, and itself alone": (together, said[order]),
        }
        return [_row(subject, form, contender, setting_name, *pair) for setting_name, pair in pairs.items()]

    yield beside(exact, "pytorch-fp32")[2:]
    for form in setting.forms:
        yield attempt(lambda f=form: beside(_open(subject, f, setting), f), _labels(subject, form))  # type: ignore[misc]  # a default binds the loop's value
        forget()
    half = TorchGraph(subject, torch.bfloat16, setting.device)
    yield attempt(lambda: beside(half, "pytorch-bf16"), _labels(subject, "pytorch-bf16"))


def measure_gate(subject: Subject, setting: Setting) -> Iterator[list[Row]]:
    """What the exporter's gate finds between each form on CUDA and cpu-fp32 on the CPU, with real head and labels."""
    if subject.gate is None:
        return
    gate = subject.gate
    reference = _on_cpu(subject, gate.rows, setting)
    for form in setting.forms:
        yield attempt(lambda f=form: _gate_rows(subject, gate, reference, f, setting), _labels(subject, form, "gate"))  # type: ignore[misc]  # as above
        forget()


def _gate_rows(subject: Subject, gate: Gate, reference: Floats, form: str, setting: Setting) -> list[Row]:
    contender = _open(subject, form, setting)
    raw = _in_buckets(contender, gate.rows)
    finite: Mask = np.array(np.isfinite(raw).all(axis=1))
    fitted = finite & gate.fitted
    calibration = refit(gate.calibration, raw[fitted], reference[fitted])
    step = max(1, len(gate.rows) // INVARIANCE_ROWS)
    some = gate.rows[::step][:INVARIANCE_ROWS]
    together = [some[i : i + INVARIANCE_BATCH] for i in range(0, len(some), INVARIANCE_BATCH)]
    difference = float(np.abs(answers(contender, alone(some)) - answers(contender, together)).max())

    def on(mask: Mask, articles: str) -> Row:
        scores = (gate.calibration.apply(reference[mask]), calibration.apply(raw[mask]))
        before, after = (Answers(s.astype(np.float64), s.astype(np.float64), np.zeros(len(s))) for s in scores)
        bad = int((~np.isfinite(raw)).sum())
        found = compare(gate.spec, before, after, gate.labels[mask], difference, bad, Route(Routing(None), None, None))
        why = "; ".join(objections(found))
        record: Row = {**found.record()}
        return {**_labels(subject, form, "gate"), "on": articles, **record, "objections": why, "passes": not why}

    return [on(finite, "calibration and test articles"), on(finite & ~gate.fitted, "test articles")]


def _open(subject: Subject, form: str, setting: Setting) -> OurGraph:
    path = subject.graph(form, setting.work)
    return OurGraph(form, OurSession(path, subject.kind, setting.device, setting.threads))


def _in_buckets(contender: Contender, rows: Rows) -> Floats:
    """Raw outputs (N, D) in the rows' order, batched as the runtime does it on CUDA."""
    batches = bucket_batches([len(row.ids) for row in rows], MAX_TOKENS)
    return _in_order(answers(contender, picked(rows, batches)), batches)


def _on_cpu(subject: Subject, rows: Rows, setting: Setting) -> Floats:
    """cpu-fp32's raw outputs (N, D) in the rows' order, batched as the runtime does it on a CPU."""
    outputs = OUTPUTS[subject.kind]
    graph = Graph(subject.graph(REFERENCE.name, setting.work), INPUTS, outputs, "cpu", setting.threads)
    batches = token_batches([len(row.ids) for row in rows], BATCH_TOKENS)
    parts = [graph.run(dict(zip(INPUTS, pad([rows[i] for i in batch]), strict=True)))[outputs[0]] for batch in batches]
    return _in_order(np.concatenate(parts), batches)


def _in_order(found: Floats, batches: Sequence[Sequence[int]]) -> Floats:
    order = np.argsort(np.concatenate([np.asarray(batch) for batch in batches]))
    sorted_rows: Floats = found[order]
    return sorted_rows


def _row(subject: Subject, form: str, contender: Contender, name: str, found: Floats, expected: Floats) -> Row:
    against = "itself" if "itself" in name else "pytorch fp32"
    where = {"contender": contender.name, "against": against, "setting": name}
    return {**_labels(subject, form), **where, **gap(found, expected), **lengths(subject.rows)}


def _labels(subject: Subject, form: str, part: str = "parity") -> Row:
    scale = subject.residual_scale if form == "cuda-fp16" else 1.0
    return {"part": part, "model": subject.name, "form": form, "residual_scale": scale}
