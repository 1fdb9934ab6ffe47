"""The filter's spec: the one strict description of what is scored, how, and by which models.

A filter's `config.yaml` and a bundle's `filter.json` are both read into `FilterSpec`. Unknown keys, wrong types and
values out of range are problems; `spec_checks` adds the rules that span fields. Use `spec_checks.parse_spec` to read.
"""

import itertools
import math
import unicodedata
from typing import Annotated, Literal, Self

import re2
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from distillery_runtime.spec.patterns import compile_pattern

Band = Literal["0-2", "3-4", "5-6", "7-8", "9-10"]
BANDS: tuple[Band, ...] = ("0-2", "3-4", "5-6", "7-8", "9-10")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1)]
Score = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Licence = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=64)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Loss = Literal["mse", "huber", "hl_gauss"]

PATTERN_MEMORY_BYTES = 8 << 20  # RE2's own limit, which keeps a single pattern's program small
MAX_PHRASE_CHARS = 1_000


def _compiles(pattern: str) -> str:
    try:
        compile_pattern(f"(?:{pattern})", PATTERN_MEMORY_BYTES)  # bracketed: \\Q without \\E would swallow the bracket
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise ValueError(f"a pattern that RE2 accepts ({reason}); it has no look-around, no back-references") from error
    return pattern


def _is_phrase(word: str) -> str:
    if " ".join(word.split()) != word or "*" in word[:-1] or word in ("", "*"):
        raise ValueError("a phrase with single spaces between words, '*' only as its last character")
    if unicodedata.normalize("NFC", word) != word:
        raise ValueError("a phrase in composed form (Unicode NFC), as texts are when rules read them")
    if len(word) > MAX_PHRASE_CHARS:
        raise ValueError(f"a phrase of at most {MAX_PHRASE_CHARS:,} characters")
    return word


def _ascend(layers: tuple[int, ...]) -> tuple[int, ...]:
    if any(after <= before for before, after in itertools.pairwise(layers)):
        raise ValueError("numbers in ascending order, each once")
    return layers


Layers = Annotated[tuple[Count, ...], AfterValidator(_ascend)]
Pattern = Annotated[str, AfterValidator(_compiles)]
Phrase = Annotated[str, AfterValidator(_is_phrase)]


class StrictModel(BaseModel):
    """Base of what is read from files: frozen, unknown keys are problems, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Dimension(StrictModel):
    """One question, answered 0-10, with five anchored bands."""

    name: Name
    weight: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    question: Text
    anchors: dict[Band, Text]


class Tier(StrictModel):
    """A named band of the overall, from `min_overall` up to the next tier."""

    name: Name
    min_overall: Score


class Gatekeeper(StrictModel):
    """A dimension that, when its score is below `below`, caps the overall at `overall_cap`."""

    dimension: Name
    below: Score
    overall_cap: Score


class Flag(StrictModel):
    """A kind of article that the oracle is asked to recognise before it scores.

    `question` says when the flag is raised. Where it is, no label is above its dimension's cap in `caps`, by arithmetic
    on the oracle's reply: the oracle scores as if there were no flag.
    """

    name: Name
    question: Text
    caps: Annotated[dict[Name, Annotated[float, Field(ge=0, lt=10, allow_inf_nan=False)]], Field(min_length=1)]


class PrefilterRule(StrictModel):
    """A rule that blocks an article (mode `block`) or only says that it would (mode `shadow`).

    `words` are phrases matched without case at word boundaries of any script, `*` at the end matching any word ending;
    `patterns` are RE2. A rule matches when any of them is found in `where` and none of the `unless` phrases, the rule's
    own and the filter's `prefilter_unless`, is found anywhere in the article.
    """

    name: Name
    mode: Literal["block", "shadow"] = "shadow"
    where: Literal["title", "text", "any"] = "any"
    words: tuple[Phrase, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    unless: tuple[Phrase, ...] = ()


class TextPolicy(StrictModel):
    """How an article becomes one string, and how much of it a model's vocabulary must know.

    A stage does not answer a text of which it cannot read more than `max_unknown_share` of the characters.
    """

    strip_markup: bool = True
    title_separator: str = "\n\n"
    max_unknown_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.3

    @property
    def unread_limit(self) -> float:
        """The largest share of unread characters that a stage answers: below 1, so it has read something."""
        return min(self.max_unknown_share, math.nextafter(1.0, 0.0))


class Window(StrictModel):
    """How a text that is too long becomes token ids: its head, a separator and its tail, inside `max_tokens`.

    `max_tokens` counts everything, special tokens and separator included. `tail_share` of the room goes to the end of
    the text; 0 keeps the head alone and uses no separator.
    """

    max_tokens: Annotated[int, Field(ge=8, le=32768)] = 512
    tail_share: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = 0.5
    separator: str = " ... "


class OracleSettings(StrictModel):
    """The LLM that labels this filter's articles.

    `step`: the distance between its answers (1 for whole points, 0.5 for half points), None where they have none. A
    fit reads it from the labels unless the config says it.
    """

    model: Text
    step: Annotated[float, Field(gt=0, le=5, allow_inf_nan=False)] | None = None


class OperatingPoint(StrictModel):
    """Which articles are selected: from which chance on, chosen on held-out articles. Exactly one aim is given.

    `max`: the best F1. `min_recall`: the highest chance that keeps this recall. `min_precision`: the lowest chance
    that has this precision.
    """

    max: Literal["f1"] | None = None
    min_recall: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    min_precision: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_one_aim(self) -> Self:
        if (count := len(self.model_dump(exclude_none=True))) != 1:
            raise ValueError(f"exactly one of max, min_recall and min_precision, found {count}")
        return self

    def __str__(self) -> str:
        return next(f"{name}={aim}" for name, aim in self.model_dump(exclude_none=True).items())


def _is_tier(value: object) -> object:
    if value != "tier":
        raise ValueError("tier, or one of max: f1, min_recall: R and min_precision: P")
    return value


def _kind_of_rule(value: object) -> str:
    return "(tier)" if isinstance(value, str) else "(aim)"


# `tier` selects what reaches the operating tier; an aim selects by chance.
OperatingRule = Annotated[
    Annotated[Literal["tier"], BeforeValidator(_is_tier), Tag("(tier)")] | Annotated[OperatingPoint, Tag("(aim)")],
    Discriminator(_kind_of_rule),
]


class HeadTraining(StrictModel):
    """How a head, and a static table with it, is trained (Adam, early stopping on validation MAE)."""

    epochs: Count = 100
    patience: Count = 10
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    batch_size: Count = 32


class ModelTraining(StrictModel):
    """How a transformer is trained (AdamW, linear warm-up and decay, early stopping on validation MAE).

    The learning rate must be given: a decoder's adapter and a whole encoder need rates that differ by far. Each layer
    below the head gets `layer_decay` of the rate above it. A step takes `accumulate` batches of `batch_tokens`; with
    `recompute` a layer's inner states are computed again for the gradient instead of being kept.
    """

    epochs: Count = 3
    patience: Count = 2
    learning_rate: Positive
    layer_decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    batch_tokens: Annotated[int, Field(ge=64)] = 4096
    accumulate: Count = 1
    recompute: bool = False
    warmup_ratio: Share = 0.1


class FrozenSettings(StrictModel):
    """A frozen sentence encoder and a small head on its embedding.

    `prefix` and `pooling` that are not given are those of the model's own folder. `layers`: numbers of hidden states, 1
    being the first layer's; each is pooled, brought to length 1, and they are joined. Without any, the embedding is as
    the folder says. The pooling `mean_max` gives each layer's mean and maximum, and needs `layers`.
    """

    embedder: Text = "intfloat/multilingual-e5-small"
    revision: Text = "main"
    prefix: str | None = None
    pooling: Literal["mean", "cls", "max", "lasttoken", "mean_max"] | None = None
    layers: Layers = ()
    hidden: tuple[Count, ...] = (256, 128)
    training: HeadTraining = HeadTraining()

    def in_window(self, window: Window) -> "ProbeSettings":
        """These settings beside a window, as a probe has them."""
        return ProbeSettings(**{name: getattr(self, name) for name in FrozenSettings.model_fields}, window=window)


class ProbeSettings(FrozenSettings):
    """Stage 1: a frozen encoder and a small head on its pooled embedding, or a model like the `static` student.

    `tune`: of a static one, as in `StaticSettings`.
    """

    window: Window = Window()
    tune: bool = True


class Cascade(StrictModel):
    """The probe, and what its routing threshold must guarantee."""

    target_miss_rate: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.05
    confidence: Annotated[float, Field(gt=0.5, lt=1, allow_inf_nan=False)] = 0.95
    probe: ProbeSettings = ProbeSettings()


class Lora(StrictModel):
    """The low-rank adapter on every linear layer of a decoder."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Share = 0.05


class DecoderSettings(StrictModel):
    """A causal language model with LoRA and a linear head on its last real token."""

    base_model: Text = "google/gemma-3-1b-pt"
    revision: Text = "main"
    lora: Lora = Lora()
    loss: Loss = "huber"
    training: ModelTraining = ModelTraining(learning_rate=2e-4)


class EncoderSettings(StrictModel):
    """A BERT or XLM-R style encoder, fine-tuned whole, with a linear head on its pooled state."""

    base_model: Text = "intfloat/multilingual-e5-small"
    revision: Text = "main"
    prefix: str = ""
    pooling: Literal["mean", "cls"] = "mean"
    loss: Loss = "hl_gauss"
    training: ModelTraining = ModelTraining(learning_rate=5e-5)


class StaticSettings(StrictModel):
    """A weight for each word and output: neither torch nor a download.

    With `tune` a token table may learn together with an MLP beside them, where that is better.
    """

    hidden: tuple[Count, ...] = (256, 128)
    training: HeadTraining = HeadTraining()
    tune: bool = True


class StudentSettings(StrictModel):
    """Stage 2: the model whose scores count. `backend` chooses which of the sections is used.

    `auto` leaves the choice to the machine that fits; what was fitted names the backend that it was.
    """

    backend: Literal["auto", "decoder", "encoder", "frozen", "static"] = "auto"
    window: Window = Window()
    decoder: DecoderSettings = DecoderSettings()
    encoder: EncoderSettings = EncoderSettings()
    frozen: FrozenSettings = FrozenSettings()
    static: StaticSettings = StaticSettings()


class Slice(StrictModel):
    """A part of the test articles reported by itself: those whose `field` does (not) contain a string."""

    name: Name
    field: Literal["source", "language", "id"]
    includes: str = ""
    excludes: str | None = None


class EvaluationSettings(StrictModel):
    """What the evaluation reports beside the total."""

    slices: tuple[Slice, ...] = ()


class CardSettings(StrictModel):
    """What a bundle's model card states that nothing can be computed from.

    `license`: under which a bundle is given away, as the Hugging Face Hub names it (`mit`, `apache-2.0`, `gemma`).
    `language`: of the articles that it is meant for, ISO 639 codes (`en`, `nl`). `note`: what else a reader should know
    of the labels, in a sentence.
    """

    license: Licence | None = None
    language: tuple[Language, ...] = ()
    note: Text | None = None


class Targets(StrictModel):
    """What the student must reach on the test articles before it is deployed, 95 % intervals included."""

    mae: Positive | None = None
    recall_operating: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    better_than_tfidf_ridge_by: Positive | None = None


class FilterSpec(StrictModel):
    """Everything that defines a filter. Dimension order here is the column order of every score array."""

    schema_version: Literal[1]
    name: Name
    version: Count
    summary: Text
    dimensions: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=32)]
    tiers: Annotated[tuple[Tier, ...], Field(min_length=2)]
    operating_tier: Name
    operating_point: OperatingRule = OperatingPoint(max="f1")
    gatekeepers: tuple[Gatekeeper, ...] = ()
    flags: tuple[Flag, ...] = ()
    prefilter: tuple[PrefilterRule, ...] = ()
    prefilter_unless: tuple[Phrase, ...] = ()
    text: TextPolicy = TextPolicy()
    oracle: OracleSettings
    cascade: Cascade = Cascade()
    student: StudentSettings = StudentSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    card: CardSettings = CardSettings()
    targets: Targets = Targets()

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """The dimensions' names in column order."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The flags' names in the order in which the oracle is asked about them."""
        return tuple(flag.name for flag in self.flags)

    @property
    def label(self) -> str:
        """`<name>-<version>`, the name of this filter's bundles."""
        return f"{self.name}-{self.version}"

    @property
    def operating_overall(self) -> float:
        """The overall from which an article counts as found: the operating tier's `min_overall`."""
        return next(tier.min_overall for tier in self.tiers if tier.name == self.operating_tier)
