"""Learning curve and training history: whether more labelling is worth it, and how the training went."""

from distillery_trainer.report import page
from distillery_trainer.report.charts import legend, multiples, single
from distillery_trainer.report.facts import Facts, percent
from distillery_trainer.report.learning import Lesson
from distillery_trainer.report.svg import Axis, from_zero

WORTH = 0.02


def labelling_section(facts: Facts) -> str:
    """The learning curves, with the answer in words."""
    title = "Is more labelling worth it?"
    if not facts.lessons:
        reason = "Not shown: the labels files or the probe's base model are not at hand, or have changed since the fit."
        return page.section(title, page.absent(reason))
    lessons = facts.lessons
    alt = "Test error after learning from more and more articles: " + "; ".join(
        f"{lesson.name}: {', '.join(f'{mae:.2f} from {size:,}' for size, mae in lesson.points)}" for lesson in lessons
    )
    sizes = [size for size, _ in lessons[0].points]
    x = Axis(0, sizes[-1], sizes, "training articles")
    panel = single(
        alt, x, from_zero(max(p[1] for lesson in lessons for p in lesson.points), "mean error (MAE)"), legend=True
    )
    styles = ("plain", "probe")
    entries = [(style, "both", lesson.name) for style, lesson in zip(styles, lessons, strict=True)]
    legend(panel.drawing, [*entries, ("student", "dot", "the student, on all")])
    for lesson, style in zip(lessons, styles, strict=True):
        panel.line(lesson.points, style)
        panel.dots(lesson.points, style)
    panel.dots([(sizes[-1], facts.evaluation["parts"]["total"]["student"]["mae"])], "student", 5)
    return page.section(title, page.paragraph(verdict(lessons[-1])), page.figure(panel.drawing, CAPTION))


CAPTION = (
    "Two cheap models, fitted again on an eighth, a quarter, half and all of the training articles, and asked about "
    "the same test articles each time. Where a line still falls at its right end, more labels will help; where it "
    "has become flat, they will not, and better labels or a larger model may. The student itself is too dear to be "
    "trained four times; it usually gains at least as much from more labels as these do."
)


def verdict(lesson: Lesson) -> str:
    """Whether the last doubling of the labels helped, and what that means for the next one."""
    (before, _), (after, mae) = lesson.points[-2:] if len(lesson.points) > 1 else (lesson.points[0], lesson.points[0])
    share = lesson.gain / (mae + lesson.gain) if mae + lesson.gain else 0.0
    found = f"From {before:,} to {after:,} training articles the error of {lesson.name} "
    if lesson.interval is None or before == after:
        return "There are too few training articles to tell."
    low, high = lesson.interval
    change = f"{'fell' if lesson.gain >= 0 else 'rose'} by {abs(lesson.gain):.3f} points ({percent(abs(share))}; "
    changed = f"{change}95 % interval {low:.3f} to {high:.3f}). "
    if low > 0 and share >= WORTH:
        return f"Yes. {found}{changed}Twice as many labels can be expected to bring a little less than that once more."
    if low > 0:
        return f"Hardly. {found}{changed}Twice as many labels would bring less than that."
    return (
        f"No gain can be seen. {found}{changed}Zero is in the interval: look for better labels or a better model first."
    )


def training_section(facts: Facts) -> str:
    """Loss and validation error by epoch."""
    title = "Did the training go well?"
    history = facts.history
    if history is None or not history["epochs"]:
        return page.section(
            title, page.absent("Left out: this kind of student is not trained in epochs that are recorded.")
        )
    epochs, best = history["epochs"], history["best_epoch"]
    xs = [epoch["epoch"] for epoch in epochs]
    step = -(-len(xs) // 10)
    x = Axis(xs[0] - 0.3, xs[-1] + 0.3, xs[::step], "epoch")
    rows = {
        name: [(e["epoch"], e[key]) for e in epochs]
        for name, key in (("Training loss", "train_loss"), ("Validation error (MAE)", "val_mae"))
    }
    alt = "By epoch: " + "; ".join(
        f"{name} {', '.join(f'{v:.3f}' for _, v in points)}" for name, points in rows.items()
    )
    drawing, panels = multiples(
        alt, list(rows), x, from_zero(max(v for points in rows.values() for _, v in points), ""), columns=2
    )
    for panel, points in zip(panels, rows.values(), strict=True):
        panel.line(points, "student")
        panel.dots(points, "student")
    kept = next((point for point in rows["Validation error (MAE)"] if point[0] == best), None)
    if kept:
        panels[1].dots([kept], "student", 6)
    caption = (
        "Left: how far the student was from the labels that it was learning, after each pass over them (epoch). "
        f"Right: its error on articles that it did not learn from; the large dot is epoch {best}, which was kept. If "
        "the right line still falls at its end, more epochs would help; if it rises while the left one falls, the "
        "student has begun to learn the articles by heart, and stopping there was right."
    )
    return page.section(title, page.figure(drawing, caption))
