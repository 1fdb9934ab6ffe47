"""Every other form of a stage against its fp32: written, run on held-out articles, refitted, and kept or refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.variants.acceptance import Comparison, Route, compare, objections, refit
from distillery_exporter.variants.stage_models import StageModel
from distillery_runtime.errors import ModelError, ProviderError
from distillery_runtime.format.integrity import file_digest
from distillery_runtime.format.manifest import VariantEntry
from distillery_runtime.format.variants import FORMS
from distillery_runtime.models.stage import Stage
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Routing
from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.certify.operating_point import selected
from distillery_trainer.certify.read_out import StageReadOut
from distillery_trainer.runs.run import Run

FALLBACKS = {"cuda-bf16": "cuda-fp16"}  # written only where the other one is refused
INVARIANCE_ROWS, INVARIANCE_BATCH = 32, 16

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Written:
    """A variant of a stage as it is in the bundle's folder, and the read-out that its graph holds."""

    model: StageModel
    entry: VariantEntry
    read_out: StageReadOut


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one variant of a stage. `written` is None where it was refused, for `reasons`.

    `comparison` is on all articles, `on_test` on the test split alone, of which the refit saw nothing; None where the
    variant did not answer.
    """

    stage: str
    variant: str
    written: Written | None
    reasons: tuple[str, ...] = ()
    comparison: Comparison | None = None
    on_test: Comparison | None = None


@dataclass(frozen=True, slots=True)
class TrialArticles:
    """The articles that variants are tried on: a run's calibration and test splits, which no model was fitted on.

    `calibration`: (N,) bool, the articles of the calibration split, on which a variant's calibration is refitted.
    """

    run: Run
    texts: Sequence[str]
    labels: Matrix
    calibration: Mask

    @property
    def spec(self) -> FilterSpec:
        """The run's."""
        return self.run.spec

    def raw(self, written: Written) -> Matrix:
        """A variant's raw outputs: (N, D) float32, or (N, D + 1) with a find head's logit.

        A row of NaN stands for an article that it cannot answer.

        They are kept in the run's cache, so that a build that was killed goes on.

        Raises:
            ProviderError: the variant's hardware is not here.
        """
        stage, folder = open_written(written), written.model.bundle
        outputs = len(written.read_out.chance.weights)
        files = sorted(path for graph in written.entry.graphs for path in folder.glob(f"{graph}*"))
        key = " ".join(file_digest(path)[1] for path in files)
        label = f"{stage.name} {stage.variant}"
        return self.run.kept("variants", key, self.texts, lambda texts: _answers(stage, texts, outputs), label)

    def batch_difference(self, written: Written) -> float:
        """The largest difference between a variant's raw output alone and in a padded batch of mixed lengths."""
        stage = open_written(written)
        step = max(1, len(self.texts) // INVARIANCE_ROWS)
        rows = stage.window.encode(self.texts[::step][:INVARIANCE_ROWS])
        alone = np.concatenate([stage.run_batch([row]).raw for row in rows])
        starts = range(0, len(rows), INVARIANCE_BATCH)
        together = np.concatenate([stage.run_batch(rows[i : i + INVARIANCE_BATCH]).raw for i in starts])
        return float(np.abs(alone - together).max())


def trial_articles(run: Run) -> TrialArticles:
    """The calibration and test articles of a run whose labels files are at hand."""
    fitted, held_out = run.places("calibration"), run.places("test")
    if run.folds:  # no article is left that no model was fitted on: forms of one model are compared all the same
        fitted = run.rounds()[0].test
        held_out = sorted({*held_out} - {*fitted})
    chosen = run.articles().select([*fitted, *held_out])
    is_fitted = np.arange(len(fitted) + len(held_out)) < len(fitted)
    return TrialArticles(run, chosen.texts, chosen.labels(), is_fitted)


def try_variants(
    exact: Sequence[Written], variants: Sequence[str], articles: TrialArticles | None, say: Callable[[str], None]
) -> list[Trial]:
    """Writes the variants of every stage and tries each; a refused one leaves no file behind.

    Args:
        exact: the stages in fp32, cheapest first.
        variants: the names of the others to write.
        articles: those to try on; None where they are gone, and then nothing is written.
        say: callback for progress messages.
    """
    trials: list[Trial] = []
    if not variants:
        return trials
    raw = [articles.raw(item) for item in exact] if articles else []
    for place, item in enumerate(exact):
        route = _route(item, exact[-1], raw[-1], articles) if articles else None
        kept: set[str] = set()
        for variant in variants:
            if reason := _why_not(item.model, variant, kept, articles):
                trials.append(Trial(item.model.name, variant, None, (reason,)))
            elif articles and route:
                say(f"writing {item.model.name} {variant} ...")
                trials.append(_try(item, raw[place], variant, articles, route))
            kept |= {variant} if trials[-1].written else set()
            say(_line(trials[-1]))
    return trials


def _route(item: Written, last: Written, last_raw: Matrix, articles: TrialArticles) -> Route:
    """Where a stage hands on and selects, and what the last one selects."""
    spec, point = articles.spec, articles.run.selection.chance
    if item is last:
        return Route(Routing(None, item.read_out.chance), None, point)
    selects_from = np.full(len(last_raw), np.nan if point is None else point)
    return Route(item.model.routing, selected(last.read_out.answers(last_raw), selects_from, spec), point)


def _why_not(model: StageModel, variant: str, kept: set[str], articles: TrialArticles | None) -> str | None:
    """Why a variant need not be written, or cannot be."""
    if variant not in model.model.forms:
        return f"this model has no such form, only {', '.join(model.model.forms)}"
    if FALLBACKS.get(variant) in kept:
        return f"not needed beside {FALLBACKS[variant]}"
    return None if articles else "the run's labels files are gone or have changed, so nothing can be compared"


def _try(exact: Written, reference: Matrix, variant: str, articles: TrialArticles, route: Route) -> Trial:
    """Writes one variant, refits it, and keeps or removes it."""
    entry = exact.model.write(variant, exact.read_out.maps)
    try:
        written = Written(exact.model, entry, exact.read_out)
        raw = articles.raw(written)
        finite: Mask = np.array(np.isfinite(raw).all(axis=1))
        written = _refitted(written, raw, reference, finite & articles.calibration)
        difference = articles.batch_difference(written)
    except (ProviderError, ModelError) as error:
        exact.model.remove(entry)
        return Trial(exact.model.name, variant, None, (f"cannot be tried here: {error}",))

    def on(mask: Mask) -> Comparison:
        before, after = exact.read_out.answers(reference[mask]), written.read_out.answers(raw[mask])
        bad = int((~np.isfinite(raw)).sum())
        return compare(articles.spec, before, after, articles.labels[mask], difference, bad, route.select(mask))

    comparison, on_test = on(finite), on(finite & ~articles.calibration)
    reasons = tuple(objections(comparison))
    if reasons:
        exact.model.remove(entry)
    return Trial(exact.model.name, variant, None if reasons else written, reasons, comparison, on_test)


def _refitted(written: Written, raw: Matrix, reference: Matrix, fitted: Mask) -> Written:
    """The variant with the maps that its own raw outputs ask for.

    Raises:
        ModelError: it has no finite output to go by.
    """
    if not fitted.any():
        raise ModelError("no raw output on the calibration articles is finite")
    before = written.read_out
    count = len(before.maps.expected.maps)
    expected = refit(before.maps.expected, raw[fitted, :count], reference[fitted, :count])
    written.model.recalibrate(written.entry, expected)
    return Written(written.model, written.entry, replace(before, maps=replace(before.maps, expected=expected)))


def open_written(written: Written) -> Stage:
    """Opens a variant where it was made for."""
    model, entry = written.model, written.entry
    return Stage(model.bundle, model.entry([entry]), entry, FORMS[entry.name].device, None)


def _answers(stage: Stage, texts: Sequence[str], outputs: int) -> Matrix:
    """Raw outputs, (N, outputs); where a batch has one that is not finite, text by text, and NaN for those at fault."""
    rows = stage.window.encode(texts)
    try:
        return stage.run(rows).raw
    except ModelError:
        return np.concatenate([_answer(stage, row, outputs) for row in rows])


def _answer(stage: Stage, row: TokenIds, outputs: int) -> Matrix:
    try:
        return stage.run_batch([row]).raw
    except ModelError:
        return np.full((1, outputs), np.nan, dtype=np.float32)


def _line(trial: Trial) -> str:
    where, found = f"  {trial.stage} {trial.variant}", trial.comparison
    if trial.reasons or found is None:
        return f"{where}: left out: {'; '.join(trial.reasons)}"
    return (
        f"{where}: kept; MAE to fp32 {found.mae_to_fp32:.3f}, label MAE {found.label_mae:.3f} (fp32 "
        f"{found.label_mae_fp32:.3f}), flips on {found.articles} articles: {found.tier_flips} tier, "
        f"{found.gatekeeper_flips} gatekeeper, {found.route_flips} route, {found.selection_flips} selection"
    )
