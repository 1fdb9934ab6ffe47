"""Labelling job: its options, and all that they depend on, read and checked before anything is asked or written."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec, TextPolicy
from distillery_trainer.data.articles import Fault, ReceivedArticle, UnusableLine, collect_received
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.prompt import read_template, render_prompt, reply_schema
from distillery_trainer.filters.reply import ParsedReply, parse_reply
from distillery_trainer.labelling import canary
from distillery_trainer.labelling.driver import Pace
from distillery_trainer.labelling.estimate import CostEstimate, Terms, estimate, max_frame_tokens, max_usage
from distillery_trainer.labelling.ledger import CostRatio, Mode, PastCall
from distillery_trainer.labelling.plan import Asking, QuestionPlan, make_asking, make_plan
from distillery_trainer.labelling.state import QuestionState, question_states
from distillery_trainer.oracle.prices import Price
from distillery_trainer.oracle.protocol import Call, Settings
from distillery_trainer.oracle.services import RECORDED, Access, check_access, price_of

# Fields of a call's body.
OURS = ("model", "messages", "stream")
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
REPLIES = ("n", "best_of", "num_return_sequences")
# Why a line is passed over, as it is counted; of other faults the reason itself is.
PASSED_OVER: Mapping[Fault, str] = {
    "no object": "not a JSON object",
    "no article": "no id, title and text",
    "no text": "no text left after cleaning",
    "repeated id": "an id used before",
}


@dataclass(frozen=True, slots=True)
class Money:
    """The budget in US dollars, for all that the ledger has ever paid, and the price where the table has none."""

    max_usd: float
    price: str | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked: how often a share of the articles is, how long a text may be, how large the canary is.

    `asks_dead_again`: dead letters of before are asked about once more. `limit`: only the first so many usable articles
    are asked about, in file order.
    """

    repeats: int = 1
    repeat_share: float = 0.0
    max_characters: int = 40_000
    canary: int = canary.SIZE
    asks_dead_again: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One `trainer label`: its options, and the files that it writes.

    `may_begin_ledger`: even where labels, dead letters or a summary beside it come from another ledger.
    """

    filter_folder: Path
    articles: tuple[Path, ...]
    out: Path
    ledger: Path
    access: Access
    money: Money
    questions: Questions = Questions()
    pace: Pace = field(default_factory=Pace)
    is_batch: bool = False
    recorded: tuple[Path, ...] = ()
    may_begin_ledger: bool = False

    @property
    def dead(self) -> Path:
        """Where the dead letters are written."""
        return self.out.with_suffix(".dead.jsonl")

    @property
    def summary(self) -> Path:
        """Where the summary is written."""
        return self.out.with_suffix(".summary.json")


@dataclass(frozen=True, slots=True)
class Articles:
    """The articles in file order, ids and texts all usable, and how many lines were passed over for which reason."""

    articles: tuple[ReceivedArticle, ...]
    passed_over: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job with its filter, articles, questions and price."""

    job: LabelJob
    spec: FilterSpec
    articles: Articles
    asking: Asking
    plan: QuestionPlan
    price: Price

    @property
    def mode(self) -> Mode:
        """How calls are made."""
        return "batch" if self.job.is_batch else "live"

    @property
    def terms(self) -> Terms:
        """What calls cost."""
        settings = self.job.access.settings
        frame_tokens = max_frame_tokens(self.asking.schema, settings)
        return Terms(self.asking.id, settings, self.price, self.mode, frame_tokens)

    def parse(self, raw: str) -> ParsedReply:
        """A raw reply, read strictly; raises `ReplyError` where it is not exactly of the schema."""
        return parse_reply(raw, self.spec)

    def states(self, history: list[PastCall]) -> dict[str, QuestionState]:
        """The state of each question so far."""
        return question_states(history, self.parse)

    def estimate(self, calls: list[Call], ratio: CostRatio) -> CostEstimate:
        """What some calls will use and cost; `ratio`: what replies have cost until now."""
        answers = len(self.spec.flags) + len(self.spec.dimensions)
        return estimate(calls, self.terms.with_headroom(ratio), answers, ratio)


def prepare(job: LabelJob) -> PreparedJob:
    """Reads what a job depends on.

    Raises:
        InputError: articles, prompt, price or options are of no use.
        SpecError: the filter's config is not valid.
    """
    access, questions = job.access, job.questions
    _check(job)
    spec = load_filter(job.filter_folder)
    price = price_of(access, job.money.price)
    template = job.filter_folder / "prompt.md"
    instruction = render_prompt(read_template(template), spec, str(template))
    articles = read_articles(job.articles, spec.text, questions.max_characters)
    schema: Mapping[str, object] = reply_schema(spec)
    asking = make_asking(spec.label, instruction, schema, access.service, access.model, access.settings)
    plan = make_plan(asking, articles.articles, questions.repeats, questions.repeat_share, questions.limit)
    prepared = PreparedJob(job, spec, articles, asking, plan, price)
    if problems := list(_price_problems(plan, price, prepared.terms)):
        raise InputError("trainer label", problems)
    return prepared


def read_articles(files: Sequence[Path], policy: TextPolicy, max_characters: int) -> Articles:
    """Reads the articles to label; those with longer texts are passed over, for one costs as much as hundreds.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no usable article in any.
    """
    received = collect_received(files, policy, "--articles", max_characters)
    passed_over = Counter(map(_passed_over, received.unusable))
    if not received.articles:
        reasons = ", ".join(f"{count} {reason}" for reason, count in passed_over.items()) or "empty files"
        raise InputError("--articles", [Problem(", ".join(map(str, files)), reasons, "at least one usable article")])
    return Articles(received.articles, dict(passed_over))


def _passed_over(line: UnusableLine) -> str:
    return PASSED_OVER.get(line.fault, line.reason)


def _check(job: LabelJob) -> None:
    check_access(job.access, job.is_batch)
    problems = []
    if (job.access.service == RECORDED) != bool(job.recorded):
        problems.append(Problem("--recorded", "labels files", f"with --oracle {RECORDED}, and only with it"))
    problems += _extra_problems(job.access.settings)
    if (job.questions.repeats > 1) != (job.questions.repeat_share > 0):
        problems.append(Problem("--repeats, --repeat-share", "one of them", "both or neither"))
    if problems:
        raise InputError("trainer label", problems)


def _extra_problems(settings: Settings) -> Iterator[Problem]:
    """Fields of `--extra` that would make a call cost more than its maximum, or ask something else."""
    limit = settings.most_output_tokens
    for name, value in settings.extra.items():
        place = f"--extra {name}"
        if name in OURS:
            yield Problem(place, "a field that trainer label itself sets", "none, or the option for it")
        elif name in LIMITS and not (value is None or (type(value) is int and 0 < value <= limit)):
            yield Problem(place, json.dumps(value), f"at most {limit}, the output reserved: see --max-output-tokens")
        elif name in REPLIES and value not in (None, 1):
            yield Problem(place, json.dumps(value), "1: a call is paid for one reply; see --repeats")


def _price_problems(plan: QuestionPlan, price: Price, terms: Terms) -> Iterator[Problem]:
    """Questions that may be longer than the price is for."""
    if price.up_to_tokens is None:
        return
    longest = max(max_usage(call, terms.settings, terms.frame_tokens).input_tokens for call in plan.calls.values())
    if longest > price.up_to_tokens:
        found = f"a question of up to {longest} tokens, and the price is known up to {price.up_to_tokens}"
        yield Problem("--max-characters", found, "a smaller one, or the price of longer prompts with --price")
