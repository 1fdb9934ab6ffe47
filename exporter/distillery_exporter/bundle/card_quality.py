"""What a model card says of quality: figures with intervals, slices, the certificate, limits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distillery_exporter.bundle.card_metadata import ANSWERS
from distillery_exporter.bundle.scripts import covered_scripts
from distillery_exporter.run_reader import Run

TOTAL = "total"
WEAK_SPEARMAN = 0.5

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def quality(run: Run) -> Iterator[str]:
    """Every system on all test articles, then what the bundle answers by slice and by dimension."""
    evaluation, tier = run.evaluation, run.spec.operating_tier
    parts: Json = evaluation["parts"]
    yield "## Quality"
    yield ""
    yield (
        f"On {evaluation['split_sizes']['test']} held-out articles (no near-duplicate of a training article among "
        "them), against the oracle's scores. MAE is the mean over dimensions on the scale of 0 to 10. Brackets: 95 % "
        f"bootstrap intervals by near-duplicate group. `{ANSWERS}` is what this bundle answers; `constant` and "
        "`tfidf_ridge` are what it has to beat."
    )
    yield from _table("system", parts[TOTAL].items(), tier)
    slices = [(name, part[ANSWERS]) for name, part in parts.items() if name != TOTAL]
    if slices:
        yield f"The {ANSWERS} on parts of these articles:"
        yield from _table("slice", slices, tier)
    yield "| dimension | MAE | bias | Spearman |"
    yield "|---|---|---|---|"
    for name, errors in parts[TOTAL][ANSWERS]["dimensions"].items():
        yield f"| {name} | {errors['mae']:.3f} | {errors['bias']:+.3f} | {number(errors['spearman'])} |"
    yield ""


def certificate(run: Run) -> Iterator[str]:
    """What the probe may miss, in words."""
    share = run.evaluation["cascade"]["share_probe"]
    yield "## Certificate"
    yield ""
    yield f"The probe answers {share:.1%} of the held-out articles by itself. {run.certificate['statement']}"
    yield ""
    yield (
        "This compares the probe with the student, on articles drawn as those it was certified on. How far the "
        "student is from the oracle stands under Quality."
    )
    yield ""


def limits(run: Run) -> Iterator[str]:
    """What the bundle is for, and where not to trust it."""
    spec, found = run.spec, run.evaluation["parts"][TOTAL][ANSWERS]
    languages = f" in {', '.join(spec.card.language)}" if spec.card.language else ""
    window = spec.student.window
    yield "## Intended use and limits"
    yield ""
    yield f"- To sort and filter streams of articles{languages} by these questions. Not for decisions about persons."
    yield (
        "- It repeats its oracle, leanings and mistakes included: agreement with the oracle was measured, not truth. "
        "It judges the words of an article and looks nothing up."
    )
    yield "- Other sources, languages and times than those it learnt from are other articles: label some and evaluate."
    yield (
        f"- It reads at most {window.max_tokens} tokens of an article"
        + (", from its beginning and its end." if window.tail_share else ", from its beginning.")
    )
    scripts = ", ".join(covered_scripts(run.folder / "student" / "tokenizer.json")) or "no whole script"
    yield (
        f"- The student's vocabulary covers {scripts}. An article of which it cannot read more than "
        f"{spec.text.max_unknown_share:.0%} of the characters is refused as `invalid`."
    )
    yield "- A text can be written to score well."
    unseen = [name for name, decisions in found["tiers"].items() if not decisions["positives"]]
    if unseen:
        yield f"- No test article is at or above {', '.join(unseen)}: how well it finds such articles is not known."
    weak = [name for name, errors in found["dimensions"].items() if (errors["spearman"] or 0) < WEAK_SPEARMAN]
    if weak:
        yield f"- Weak, with a rank correlation below {WEAK_SPEARMAN:g}: {', '.join(weak)}."
    yield ""


def number(value: float | None) -> str:
    """A figure with three decimals, or a dash where it is not defined."""
    return "-" if value is None else f"{value:.3f}"


def _table(what: str, rows: Iterable[tuple[str, Json]], tier: str) -> Iterator[str]:
    yield ""
    yield f"| {what} | articles | MAE | Spearman of the overall | recall at {tier} | precision |"
    yield "|---|---|---|---|---|---|"
    for name, found in rows:
        intervals, decisions = found["intervals"], found["tiers"][tier]
        yield (
            f"| {name} | {found['n']} | {found['mae']:.3f}{_brackets(intervals['mae'])} | "
            f"{number(found['overall']['spearman'])} | "
            f"{number(decisions['recall'])}{_brackets(intervals.get(f'recall_{tier}'))} of {decisions['positives']} | "
            f"{number(decisions['precision'])} |"
        )
    yield ""


def _brackets(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
