"""The report of a run as one HTML page: the answer first, then what it rests on."""

from distillery_trainer.report import decisions, label_spread, learning_curve, mistakes, page, scatter, systems
from distillery_trainer.report.advice import RULES, advise
from distillery_trainer.report.facts import Facts, in_words

WORDS = (
    (
        "Oracle:",
        "the large language model whose scores the models learn to give. It is the measure here, not the truth.",
    ),
    ("Student:", "the model that learnt from the oracle, the better and slower of the two."),
    ("Probe:", "a much faster model that goes first and may drop what is clearly of no interest."),
    ("Cascade:", "both together, as they are deployed: the probe, and the student where the probe does not drop."),
    ("Overall:", "the weighted mean of an article's scores, capped where a gatekeeper says so; it decides the tier."),
    (
        "Tier:",
        "a named band of the overall. A find is an article that the oracle places at the operating tier or above.",
    ),
    (
        "Chance:",
        "the probability, by a model, that an article is such a find; from the operating point on it is selected.",
    ),
    ("95 % interval:", "where a figure would lie with other articles of the same kind, in 95 of 100 cases."),
)


def render(facts: Facts) -> str:
    """The page, the same bytes for the same run."""
    title = f"Report: {facts.spec.label}"
    parts = [
        f"<h1>{page.escape(in_words(facts.spec.name))}, version {facts.spec.version}</h1>",
        page.paragraph(facts.spec.summary, "under"),
        page.paragraph(_made_of(facts)),
        _answer(facts),
        decisions.selection_section(facts),
        systems.section(facts),
        decisions.section(facts),
        decisions.cascade_section(facts),
        scatter.section(facts),
        scatter.calibration_section(facts),
        mistakes.section(facts),
        mistakes.worst_section(facts),
        label_spread.section(facts),
        learning_curve.labelling_section(facts),
        learning_curve.training_section(facts),
        page.section("Words used here", page.terms(WORDS)),
    ]
    return page.document(title, "en", parts)


def _answer(facts: Facts) -> str:
    advice = advise(facts)
    reasons = [page.bullets(advice.reasons)] if advice.reasons else []
    return "\n".join(
        [
            '<div class="answer">',
            f"<h2>Should it be deployed? {page.escape(advice.answer)}</h2>",
            *reasons,
            page.bullets(advice.meaning),
            page.paragraph(RULES, "absent"),
            "</div>",
        ]
    )


def _made_of(facts: Facts) -> str:
    sizes = facts.evaluation.split_sizes
    oracles = f"labelled by {facts.labelled.oracles}, " if facts.labelled else ""
    if sizes.folds:
        return (
            f"A student of the kind “{facts.evaluation.backend}” and a probe, {oracles}fitted on all {sizes.train:,} "
            f"articles. What this report says of each article is by models of the other {sizes.folds - 1} of "
            f"{sizes.folds} folds, which never saw it."
        )
    return (
        f"A student of the kind “{facts.evaluation.backend}” and a probe, {oracles}fitted on {sizes.train:,} "
        f"articles, tuned on {sizes.val:,} and judged on {sizes.test:,} others, which are what this report is "
        "about."
    )
