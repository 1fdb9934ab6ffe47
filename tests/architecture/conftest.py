"""What the architecture tests share: every module of the three packages, parsed, and a Hub cache of tiny models."""

import ast
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from distillery_exporter.build import build, whole_run
from distillery_exporter.variants.parity import probe_reference
from distillery_runtime.articles.article import Article
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.spec.model import FilterSpec, TextPolicy
from distillery_runtime.spec.verdict import decide
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.certificate import Drawn, Wanted, certify
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.evaluate import metrics
from distillery_trainer.evaluate.gate import check_targets
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.prompt import render_prompt
from distillery_trainer.filters.reply import ParsedReply, applied
from distillery_trainer.models.choose import load_student
from distillery_trainer.models.static_embedder import TABLE_FOLDER
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import Run
from distillery_trainer.runs.tasks import Task, task_keys
from distillery_trainer.store.files import digest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny models are slower on several threads

ROOT = Path(__file__).parents[2]
FILTER = ROOT / "filters" / "sustainability_technology" / "v3"
PACKAGES = ("runtime/distillery_runtime", "trainer/distillery_trainer", "exporter/distillery_exporter")
ARTICLES, FEW = 200, 32  # for reports with slices of ten and more; for fitting students and probes
GREEN, TOWN = ["river", "wind", "tree", "sun", "sea"], ["city", "school", "art", "old", "bank"]
TITLE, FILLER = "A quiet day in the harbour", "Nothing else happened in the harbour, and nobody minded."
LONG_TEXT = " ".join(f"{word} {number}" for number in range(200) for word in ("river", "city"))
PROBING_TEXTS = [FILLER, "wind and sun", "old city bank", LONG_TEXT]
WITHOUT_TORCH = {"student.backend": "static", "cascade.probe.embedder": "static"}
QUICK = {"student.static.training.epochs": 3, "cascade.probe.training.epochs": 3}
COURSE_FILES = ("head.json", "training_history.json")
# An article's title for each alternative of each pattern.
PATTERN_SAMPLES = {
    r"(?:you won.t believe|\bthis one trick\b|\b\d+ (?:reasons|things|tricks) (?:why|that|you)\b)": [
        "You won't believe it", "Learn this one trick", "7 reasons why", "9 tricks that", "3 things you",
    ],
    r"\d ?% off(?:\W|$)": ["50% off", "50 % off today"],
}  # fmt: skip

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One module of our code: `path` from the root of the repository, `name` as it is imported."""

    path: str
    name: str
    source: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package at the top, such as `distillery_runtime`."""
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything imported anywhere in the module, functions included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                parent = node.module or ""
                if node.level:
                    parent = ".".join([*self.name.split(".")[: -node.level], *filter(None, [node.module])])
                yield from ((node.lineno, f"{parent}.{alias.name}") for alias in node.names)

    def docstrings(self) -> set[int]:
        """The ids of the nodes that are docstrings."""
        owners = [n for n in ast.walk(self.tree) if isinstance(n, (ast.Module, *Definition.__args__)) and n.body]
        first = [owner.body[0] for owner in owners]
        return {id(e.value) for e in first if isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant)}


@pytest.fixture(scope="session")
def modules() -> tuple[Module, ...]:
    return tuple(_read(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))


@pytest.fixture(scope="session")
def loaded_by() -> Callable[..., set[str]]:
    """Tells which top-level packages a new interpreter has loaded after importing some modules."""

    def loaded(*names: str) -> set[str]:
        code = f"import json, sys, {', '.join(names)}; print(json.dumps(sorted(sys.modules)))"
        path = [str(ROOT / Path(package).parent) for package in PACKAGES]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return {name.partition(".")[0] for name in json.loads(done.stdout)}

    return loaded


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str, str], None]]:
    """A Hub cache without a network: publishes tiny models under the names and revisions that a spec may ask for."""
    pytest.importorskip("torch")
    from huggingface_hub import constants

    cache = tmp_path_factory.mktemp("hub")

    def publish(kind: str, name: str, revision: str) -> None:
        commit = hashlib.sha1(f"{kind} {name} {revision}".encode()).hexdigest()
        repository = cache / f"models--{name.replace('/', '--')}"
        _save_model(kind, int(commit[:6], 16), repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit, encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield publish


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Lab"]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 20)  # for intervals that nobody reads
        yield Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def published(hub: Callable[[str, str, str], None]) -> None:
    """Tiny models in the place of those that the shipped filter names, and others to change to."""
    student = load_filter(FILTER).student
    for kind, name in (("decoder", student.decoder.base_model), ("encoder", student.encoder.base_model)):
        hub(kind, name, "main")
        hub(kind, name, "other")
        hub(kind, f"tiny/{kind}", "main")


class Lab:
    """Lets the code do its work by a spec, and remembers what came of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._seen: dict[tuple[str, str], object] = {}
        self._read: dict[tuple[tuple[str, ...], TextPolicy], LabelledSet] = {}

    def observe(self, what: str, spec: FilterSpec) -> object:
        """What the code does by this spec, in one respect: a value that can be compared."""
        key = (what, spec.model_dump_json())
        if key not in self._seen:
            self._seen[key] = self.observe_anew(what, spec)
        return self._seen[key]

    def observe_anew(self, what: str, spec: FilterSpec) -> object:
        return getattr(self, f"_{what}")(spec)

    def task_keys(self, spec: FilterSpec) -> dict[str, str]:
        return task_keys(list(self._tasks(spec, FEW, self._folder).values()))

    def _tasks(self, spec: FilterSpec, articles: int, folder: Path) -> dict[str, Task]:
        run = Run(folder, spec, 0, lambda: self._labelled(spec, articles))
        return {task.name: task for task in Pipeline(run).tasks()}

    def _prompt(self, spec: FilterSpec) -> object:
        return render_prompt("{{summary}} {{flags}} {{dimensions}} {{reply_schema}}", spec)

    def _capped(self, spec: FilterSpec) -> object:
        """What is left of the highest scores under each of the flags."""
        high = (10.0,) * len(spec.dimensions)
        return [applied(ParsedReply(high, frozenset([name])), spec) for name in spec.flag_names]

    def _verdicts(self, spec: FilterSpec) -> object:
        grid = np.random.default_rng(1).uniform(0, 10, (300, len(spec.dimensions)))
        return [decide(row, spec) for row in [*grid, *np.linspace(0, 10, 41)[:, None].repeat(grid.shape[1], axis=1)]]

    def _blocked(self, spec: FilterSpec) -> object:
        prefilter = Prefilter(spec)
        return [prefilter.check(text) for text in self._texts_for_rules(spec.text)]

    @functools.cache  # noqa: B019 - the lab lives as long as its tests
    def _texts_for_rules(self, policy: TextPolicy) -> list[ArticleText]:
        return [compose(article, policy) for article in articles_for_rules(load_filter(FILTER))]

    def _texts(self, spec: FilterSpec) -> object:
        return self._labelled(spec, FEW).texts

    def _windows(self, spec: FilterSpec) -> object:
        windows = (spec.cascade.probe.window, spec.student.window)
        return [TokenWindow(TABLE_FOLDER / "tokenizer.json", w).encode([LONG_TEXT])[0].ids.tolist() for w in windows]

    def _threshold(self, spec: FilterSpec) -> object:
        student = np.linspace(0, 10, 500)
        probe = 1 / (1 + np.exp(4 - student - np.sin(np.arange(500)) * 2.5))
        cascade = spec.cascade
        wanted = Wanted(cascade.target_miss_rate, cascade.confidence)
        found = certify(Drawn(probe, student >= spec.operating_overall), wanted)
        return found.threshold, found.misses, found.share_below

    def _certificate(self, spec: FilterSpec) -> object:
        record = self._make("certify", spec)
        return [
            (judge["positives"], judge["positives_needed"], judge["upper_bound"])
            for judge in (record, record["oracle"])
        ]

    def _selection(self, spec: FilterSpec) -> object:
        return self._make("select", spec)["rule"]

    def _report(self, spec: FilterSpec) -> object:
        return self._make("evaluate", spec)

    def _gate(self, spec: FilterSpec) -> object:
        return check_targets(spec.targets, open_run(self._fitted_run).evaluation)

    def _bundle(self, spec: FilterSpec) -> object:
        run = Path(shutil.copytree(self._fitted_run, self._new_folder()))
        data = without_torch(spec).model_dump(mode="json")
        (run / "config.resolved.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        (run / "manifest.json").write_text(json.dumps(manifest | {"spec_sha256": digest(data)}), encoding="utf-8")
        out = self._new_folder()
        scorer = build(whole_run(run), out, ("cpu-fp32",), 1, lambda _: None)
        manifest = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
        lineage = {key: value for key, value in manifest["lineage"].items() if key != "run"}
        return (
            scorer.bundle.partition("@")[0],
            lineage,
            (out / "README.md").read_text(encoding="utf-8").partition("## Lineage")[0],
        )

    def _student(self, spec: FilterSpec) -> object:
        folder = self._make_one("fit", "student", spec)
        answers = load_student(spec, folder / "student").predict(PROBING_TEXTS)
        return how_it_went(folder / "student"), answers.tolist()

    def _passes(self, spec: FilterSpec) -> object:
        """How often each kind of module computes while the student is fitted."""
        import torch

        counts: Counter[str] = Counter()
        hook = torch.nn.modules.module.register_module_forward_pre_hook(
            lambda module, _inputs: counts.update([type(module).__name__])
        )
        try:
            self._make_one("fit", "student", spec)
        finally:
            hook.remove()
        return counts

    def _probe(self, spec: FilterSpec) -> object:
        folder = self._make_one("probe", "probe", spec)
        return how_it_went(folder / "probe"), probe_reference(spec, folder, PROBING_TEXTS).tolist()

    def _make_one(self, name: str, output: str, spec: FilterSpec) -> Path:
        """A run of which one task has been done, besides the split."""
        folder = self._new_folder()
        folder.mkdir()
        shutil.copyfile(self._split, folder / "splits.jsonl")
        self._tasks(spec, FEW, folder)[name].make(folder / output)
        return folder

    @functools.cached_property
    def _split(self) -> Path:
        folder = self._new_folder()
        self._tasks(without_torch(load_filter(FILTER)), FEW, folder)["split"].make(folder / "splits.jsonl")
        return folder / "splits.jsonl"

    def _make(self, name: str, spec: FilterSpec) -> dict[str, object]:
        """What one of the last tasks writes, on models fitted before."""
        output = self._new_folder() / "output.json"
        self._tasks(without_torch(spec), ARTICLES, self._fitted_run)[name].make(output)
        content: dict[str, object] = json.loads(output.read_text(encoding="utf-8"))
        return content

    @functools.cached_property
    def _fitted_run(self) -> Path:
        source = self._new_folder()
        source.mkdir()
        for name in ("config.yaml", "prompt.md"):
            shutil.copyfile(FILTER / name, source / name)
        labels, overrides = self._labels_file(load_filter(source).dimension_names), {**WITHOUT_TORCH, **QUICK}
        return fit(FitRequest(source, [labels], overrides, run_dir=self._new_folder()), lambda _: None)

    def _labelled(self, spec: FilterSpec, count: int) -> LabelledSet:
        key = (spec.dimension_names, spec.text)
        if key not in self._read:
            self._read[key] = read_labels([self._labels_file(spec.dimension_names)], spec)
        return self._read[key].select(range(count))

    @functools.cache  # noqa: B019 - the lab lives as long as its tests
    def _labels_file(self, dimensions: tuple[str, ...]) -> Path:
        path = self._folder / f"labels-{next(self._numbers)}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in labelled_lines(dimensions)), encoding="utf-8")
        return path

    def _new_folder(self) -> Path:
        """A path where nothing is yet."""
        return self._folder / f"new-{next(self._numbers)}"


def without_torch(spec: FilterSpec) -> FilterSpec:
    return apply_overrides(spec, WITHOUT_TORCH)


def how_it_went(folder: Path) -> list[str]:
    """What a fit wrote of its course: the error of each kind of head, or of each epoch."""
    return [p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.json")) if p.name in COURSE_FILES]


def articles_for_rules(spec: FilterSpec) -> Iterator[Article]:
    """Articles that meet phrases of each prefilter rule: in the title, in the text, and with exceptions.

    Of each list the first and the last phrase.
    """
    for rule in spec.prefilter:
        phrases = [phrase.replace("*", "s") for phrase in (*rule.words[:1], *rule.words[-1:])]
        samples = [*phrases, *(sample for pattern in rule.patterns for sample in PATTERN_SAMPLES[pattern])]
        for sample in [*samples, *(phrase.replace(" ", " <b>", 1) for phrase in phrases)]:
            yield Article("title", sample, FILLER)
            yield Article("text", TITLE, f"{sample}. {FILLER}")
        general = spec.prefilter_unless
        for exception in (*rule.unless[:1], *rule.unless[-1:], *general[:1], *general[-1:]):
            yield Article("unless", samples[0], f"{exception.replace('*', 's')}. {FILLER}")


def labelled_lines(dimensions: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Articles whose labels follow from their words, some of them long, in two languages and of two sources."""
    generator = np.random.default_rng(7)
    for number in range(ARTICLES):
        share = generator.uniform()
        count = 60 if number % 8 == 0 else int(generator.integers(5, 15))
        words = [str(generator.choice(GREEN if generator.uniform() < share else TOWN)) for _ in range(count)]
        noise = generator.uniform(-1, 1, len(dimensions))
        yield {
            "id": f"article-{number}",
            "title": f"{words[0]} &amp; <i>{words[-1]}</i> {number}",
            "text": f"<p>{' '.join(words)}</p>",
            "language": ("en", "nl")[number % 2],
            "source": ("arxiv", "news")[number // 2 % 2],
            "labels": {d: float(np.clip(10 * share + n, 0, 10)) for d, n in zip(dimensions, noise, strict=True)},
        }


def _save_model(kind: str, seed: int, folder: Path) -> None:
    """A decoder of one layer or an encoder of two, 32 wide, with random weights, reading bytes."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "<eos>", "<bos>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    sizes = {
        "vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 1 if kind == "decoder" else 2, "num_attention_heads": 2,
        "max_position_embeddings": 1024, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(seed)
    if kind == "decoder":
        config = transformers.Gemma3TextConfig(
            **sizes, num_key_value_heads=1, head_dim=16, eos_token_id=1, bos_token_id=2
        )
        transformers.Gemma3ForCausalLM(config).save_pretrained(folder)
    else:
        transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))


def _read(path: Path) -> Module:
    relative = path.relative_to(ROOT)
    parts = relative.with_suffix("").parts[1:]
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    source = path.read_text(encoding="utf-8")
    return Module(relative.as_posix(), name, source, ast.parse(source))
