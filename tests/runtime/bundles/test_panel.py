"""A panel gives what each filter's scorer gives, and does once what the filters have in common."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from distillery_exporter.bundle.goldens import GENERIC, record_goldens
from distillery_exporter.bundle.writer import write_manifest
from distillery_exporter.graphs.head import build_head
from distillery_runtime import HybridScorer, InputError, Score, load, load_panel
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.bundles.panel import Panel
from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.timings import Timings
from distillery_runtime.spec.model import FilterSpec

WORDS = [
    *("solar", "wind", "battery", "heat", "pump", "ferry", "grid", "energy", "lake", "sunday", "cards", "pancakes"),
    *("casino", "football", "<b>", "council", "law", "measured"),
]
WIDTH = 8


@dataclass(frozen=True)
class Sibling:
    """How a filter's bundle differs from the fixture's."""

    name: str
    head: int = 0  # seed of the probe's head; 0 keeps the fixture's
    threshold: float | None = 0.3
    prefix: str = ""
    max_tokens: int = 16
    blocks: str = "casino"
    strip_markup: bool = True
    separator: str = "\n\n"
    stages: int = 2


LIKE = Sibling("like")
OTHER_HEAD = Sibling("other_head", head=3, threshold=0.5, blocks="football")
NO_THRESHOLD = Sibling("no_threshold", head=4, threshold=None, blocks="pancakes")
PREFIXED = Sibling("prefixed", head=5, prefix="solar ")
SHORT = Sibling("short", head=6, max_tokens=9)
MARKUP = Sibling("markup", head=7, strip_markup=False, separator=" . ")
ONE_STAGE = Sibling("one_stage", head=8, stages=1, blocks="football")

Make = Callable[[Sibling], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Make:
    """Makes a filter's bundle, once."""
    folder = tmp_path_factory.mktemp("siblings")

    def made(sibling: Sibling) -> Path:
        target = folder / sibling.name
        if not target.exists():
            shutil.copytree(repository / "tests" / "fixtures" / "bundle-v2", target)
            change(target, sibling)
        return target

    return made


def change(folder: Path, sibling: Sibling) -> None:
    """Makes a copy of the fixture bundle another filter's, with golden articles of its own."""
    bundle = open_bundle(folder)
    spec = changed_spec(bundle.spec, sibling)
    (folder / "filter.json").write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    if sibling.head:
        generator = np.random.default_rng(sibling.head)
        layer = generator.normal(0, 1.2, (2, WIDTH)).astype(np.float32), np.full(2, 4.0, np.float32)
        mean, spread = np.zeros(WIDTH, np.float32), np.full(WIDTH, 0.3, np.float32)
        maps = bundle.calibration.read_out("probe", "cpu-fp32")
        assert maps is not None
        build_head(folder / "probe" / "head.onnx", mean, spread, [layer], maps)
    probe, student = bundle.manifest.stages
    threshold = sibling.threshold if sibling.stages > 1 else None
    window = probe.window.model_copy(update={"max_tokens": sibling.max_tokens})
    probe = probe.model_copy(update={"threshold": threshold, "prefix": sibling.prefix, "window": window})
    entries = [probe, student][: sibling.stages]
    stages = [Stage(folder, entry, entry.variants[0], "cpu", 1) for entry in entries]
    goldens = record_goldens([(article, "made for the tests") for article in GENERIC], stages, spec.text)
    (folder / "golden.jsonl").write_text("".join(f"{g.model_dump_json()}\n" for g in goldens), encoding="utf-8")
    (folder / "bundle.json").unlink()
    assert bundle.manifest.selection is not None
    write_manifest(folder, spec, entries, bundle.manifest.selection, {"oracle": "none", "run": "sibling"})


def changed_spec(spec: FilterSpec, sibling: Sibling) -> FilterSpec:
    rule = spec.prefilter[0].model_copy(update={"words": (sibling.blocks,)})
    text = spec.text.model_copy(update={"strip_markup": sibling.strip_markup, "title_separator": sibling.separator})
    return spec.model_copy(update={"name": sibling.name, "prefilter": (rule,), "text": text})


def articles(count: int) -> list[object]:
    """Articles of a few words to many, and now and then what is none."""
    generator = random.Random(0)

    def words(most: int) -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(0, most)))

    return [{"id": str(i), "title": words(4), "text": words(generator.choice([3, 10, 40]))} for i in range(count)]


class Passes(Counter[int]):
    """Rows by the session that they went through."""


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Counts what really goes through onnxruntime."""
    counted = Passes()
    run = ort.InferenceSession.run

    def counting(self: ort.InferenceSession, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> object:
        if "input_ids" in inputs:
            counted[id(self)] += len(inputs["input_ids"])
        return run(self, outputs, inputs)

    monkeypatch.setattr(ort.InferenceSession, "run", counting)
    return counted


@pytest.mark.parametrize(
    "siblings",
    [
        (LIKE,),
        (LIKE, OTHER_HEAD),
        (OTHER_HEAD, NO_THRESHOLD, ONE_STAGE),
        (LIKE, PREFIXED, OTHER_HEAD, SHORT),
        (MARKUP, LIKE, ONE_STAGE, OTHER_HEAD),
        (ONE_STAGE, ONE_STAGE),
    ],
    ids=lambda siblings: "+".join(sibling.name for sibling in siblings),
)
def test_each_result_is_exactly_what_the_filters_own_scorer_gives(siblings: tuple[Sibling, ...], make: Make) -> None:
    records = articles(120)
    paths = [make(sibling) for sibling in siblings]
    expected = list(zip(*[load(path).score_batch(records) for path in paths], strict=True))

    panel = load_panel(paths)

    assert panel.score_batch(records) == expected
    assert list(panel.score_stream(iter(records))) == expected
    assert [panel.score(record) for record in records[:50]] == expected[:50]
    assert {score.status for scores in expected for score in scores} == {"scored", "blocked", "invalid"}


def test_an_article_passes_a_shared_encoder_and_a_shared_student_once(make: Make, passes: Passes) -> None:
    records = articles(300)
    paths = [make(sibling) for sibling in (LIKE, OTHER_HEAD, NO_THRESHOLD)]
    alone = [load(path).score_batch(records) for path in paths]
    panel = load_panel(paths)
    passes.clear()

    panel.score_batch(records)

    probed = {i for scores in alone[:2] for i, score in enumerate(scores) if score.status == "scored"}
    onward = {i for scores in alone for i, score in enumerate(scores) if score.stage == "student"}
    assert sorted(passes.values()) == sorted([len(probed), len(onward)])
    assert 0 < len(onward) < len(records)


def test_a_stage_that_cannot_answer_is_not_run_and_changes_no_result(make: Make, passes: Passes) -> None:
    records, timings = articles(100), Timings()
    alone = load(make(NO_THRESHOLD))
    panel = load_panel([make(NO_THRESHOLD), make(LIKE)])
    student_only = HybridScorer(alone.spec, alone.stages[1:], alone.bundle, alone.selection)
    passes.clear()

    scores = alone.score_batch(records, timings=timings)

    scored = sum(score.status == "scored" for score in scores)
    assert list(passes.values()) == [scored]
    assert "probe tokenise" not in timings.steps
    assert scores == student_only.score_batch(records) == [pair[0] for pair in panel.score_batch(records)]


def test_filters_that_read_otherwise_use_the_encoder_otherwise(make: Make, passes: Passes) -> None:
    records = articles(100)
    panel = load_panel([make(LIKE), make(PREFIXED), make(SHORT), make(MARKUP)])
    encoders = {id(scorer.stages[0].graphs[0]) for scorer in panel.scorers}
    windows = {id(scorer.stages[0].window) for scorer in panel.scorers}
    passes.clear()

    results = panel.score_batch(records)

    probed = sum(score.status == "scored" for scores in results for score in scores)
    assert (len(encoders), len(windows)) == (1, 3)
    assert max(passes.values()) == probed


def test_steps_are_counted_for_all_filters_together(make: Make) -> None:
    records = articles(100)
    timings = Timings()
    panel = load_panel([make(LIKE), make(OTHER_HEAD)])

    results = panel.score_batch(records, timings=timings)

    steps = timings.steps
    scored = [i for i, scores in enumerate(results) if any(score.status == "scored" for score in scores)]
    heads = sum(score.status == "scored" for scores in results for score in scores)
    assert steps["clean"].articles == len(records)
    assert steps["probe tokenise"].articles == steps["probe model"].articles == len(scored)
    assert steps["probe head"].articles == steps["probe decide"].articles == heads
    assert all(step.seconds > 0 for step in steps.values())


def test_filters_that_share_nothing_score_together_too(make: Make) -> None:
    scorers = [load(make(LIKE)), load(make(OTHER_HEAD))]
    records = articles(50)

    results = Panel(scorers).score_batch(records)

    assert results == list(zip(*[scorer.score_batch(records) for scorer in scorers], strict=True))


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_what_a_filter_cannot_read_is_invalid_for_it_at_whichever_stage_it_ends(make: Make, limit: float) -> None:
    scorers = []
    for sibling in (LIKE, OTHER_HEAD, NO_THRESHOLD, ONE_STAGE, PREFIXED, MARKUP):
        one = load(make(sibling))
        text = one.spec.text.model_copy(update={"max_unknown_share": limit})
        scorers.append(HybridScorer(one.spec.model_copy(update={"text": text}), one.stages, one.bundle))
    unread = "\u0e44\u0e17\u0e22 " * 9  # no letter of it is in the vocabulary
    records = [{"id": "wind", "text": "solar wind"}, {"id": "thai", "text": unread}, {"id": "sun", "text": "heat pump"}]
    panel = Panel(scorers)

    results = panel.score_batch(records)

    assert [{score.status for score in scores} for scores in results] == [{"scored"}, {"invalid"}, {"scored"}]
    assert results == list(panel.score_stream(records))
    assert results == list(zip(*[scorer.score_batch(records) for scorer in scorers], strict=True))


def test_results_name_the_bundles_in_the_order_given(make: Make) -> None:
    panel = load_panel([make(OTHER_HEAD), make(LIKE)])

    scores = panel.score({"id": "1", "text": "wind"})

    assert [score.bundle.partition("@")[0] for score in scores] == ["other_head-1", "like-1"]


def test_a_panel_of_none_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        load_panel([])


def test_scorers_of_a_panel_are_the_filters_own(make: Make) -> None:
    panel = load_panel([make(LIKE), make(ONE_STAGE)])
    record = {"id": "1", "text": "solar wind battery"}

    scores: list[Score] = [scorer.score(record) for scorer in panel.scorers]

    assert tuple(scores) == panel.score(record)
