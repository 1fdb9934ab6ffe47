"""Several filters' students on one backbone: which article teaches whom, and the one training that they share.

Multi-task learning with hard parameter sharing (Caruana 1997, "Multitask Learning", Machine Learning 28): one backbone,
a linear head for each filter, and a loss over those labels that there are. An article may have labels for one filter or
for several. What comes of it is a student for each filter, like one that was trained alone, except that all of them
have the same backbone: so one pass over an article can serve all (see `distillery_runtime.bundles.panel`).

Of students on a frozen encoder it is the heads that learn together, by a hidden layer of their own (`joint_heads`).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.split import (
    SHARES,
    SPLIT_VERSION,
    Assignment,
    divided_groups,
    fold_names,
    folds_by_group,
    given_splits,
    read_splits,
    split_by_group,
    write_splits,
)
from distillery_trainer.models import frozen
from distillery_trainer.models.choose import (
    FROZEN,
    Embedder,
    base_model_of,
    call_helpers,
    content_of,
    fit_student,
    open_embedder,
    take_dimensions,
)
from distillery_trainer.models.joint_heads import epochs_of
from distillery_trainer.models.protocol import FitData
from distillery_trainer.models.records import JOINT_FILE, JointRecord
from distillery_trainer.runs.joint_checks import differences
from distillery_trainer.runs.joint_heads import JointHeads, embedded, taught_by
from distillery_trainer.runs.run import HELD_OUT, MANIFEST, SPLITS, STUDENT
from distillery_trainer.runs.tasks import Task, TaskFolder
from distillery_trainer.store.files import digest, tree_digest, write_json
from distillery_trainer.store.progress import Bar

SHARED_TEXTS = 96  # kept for the exporter, which fits rounded weights to what the backbone reads
LISTED = 20

Text = tuple[str, int]  # a composed text, and which of a filter's articles with this text it is, from 0


@dataclass(frozen=True, slots=True)
class Member:
    """One filter of a joint training: its spec (overrides applied) and its labelled articles."""

    spec: FilterSpec
    labelled: LabelledSet


@dataclass(frozen=True)
class Joint:
    """A joint training of several filters' students, in a folder of its own.

    `members`: the filters, in the order of their heads; text policy and student are the same in all. `seed`: of the
    split and the training. `folds`: how many, of students on a frozen encoder; `splits`: a file that gives each article
    its fold instead.

    Raises:
        InputError: there are not several filters, or they do not suit each other.
    """

    members: Sequence[Member]
    folder: Path
    seed: int
    folds: int = 0
    splits: Path | None = None

    def __post_init__(self) -> None:
        problems = list(differences([member.spec for member in self.members]))
        if problems:
            raise InputError("--joint", problems[:LISTED])

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters' labels."""
        return tuple(member.spec.label for member in self.members)

    @property
    def label(self) -> str:
        """The filters' labels in one, as the manifest of the joint training's folder has it."""
        return " + ".join(self.filters)

    @cached_property
    def student_sha256(self) -> str:
        """The digest of the shared student, once it is fitted."""
        return tree_digest(self.folder / STUDENT)

    @cached_property
    def key(self) -> list[str]:
        """What students that are taken from it depend on, and what was held out, once it is fitted."""
        return [self.student_sha256, *([tree_digest(self.folder / HELD_OUT)] if self.is_frozen else [])]

    @property
    def is_frozen(self) -> bool:
        """Whether the students stand on a frozen encoder."""
        return self.members[0].spec.student.backend == FROZEN

    def fit(self, say: Callable[[str], None]) -> None:
        """Brings the shared student up to date, going on where an interrupted call stopped."""
        say(f"joint training {self.folder}: {self.label}, {len(self._texts)} articles")
        manifest = {"schema_version": 1, "filter": self.label, "seed": self.seed, "stages": None}
        TaskFolder(self.folder).execute(self.tasks(), say, lambda: write_json(self.folder / MANIFEST, manifest))

    def tasks(self) -> Sequence[Task]:
        """The chain, whose last task makes the shared student."""
        split = Task("split", SPLITS, (), self._split_inputs, SPLIT_VERSION, self._split)
        if self.is_frozen:
            held = Task("hold_out", HELD_OUT, ("split",), self._fit_inputs, 1, lambda path: self.heads.hold_out(path))
            return split, held, Task("fit", STUDENT, ("hold_out",), self._fit_inputs, 1, self._fit_heads)
        return (
            split,
            Task("fit", STUDENT, ("split",), self._fit_inputs, 2, self._fit),
        )

    def assignments(self, number: int) -> list[Assignment]:
        """Where a filter's articles went: one split for a text, whichever filters have labels for it."""
        first: dict[str, str] = {}
        found = []
        for article, place in zip(self.members[number].labelled.articles, self._places[number], strict=True):
            row = self._assigned[place]
            found.append(Assignment(article.id, row.split, first.setdefault(row.group, article.id)))
        return found

    def others(self, number: int) -> list[str]:
        """The texts that the shared student may have learnt from and that are none of a filter's own articles."""
        own = set(self._places[number])
        return [text for place, (text, _) in enumerate(self._texts) if place not in own]

    def take(self, number: int, folder: Path) -> None:
        """Writes one filter's student: the shared one with this filter's dimensions alone.

        Raises:
            InputError: the shared student is not the one that was fitted.
            ModelError: what was written does not answer as the shared one.
        """
        if tree_digest(self.folder / STUDENT) != self.student_sha256:
            problem = Problem("student", "changed by another process", "as it was fitted")
            raise InputError(str(self.folder), [problem])
        if self.is_frozen:
            frozen.take(self.folder / STUDENT, self.filters[number], folder)
            return
        start = sum(len(member.spec.dimensions) for member in self.members[:number])
        spec = self.members[number].spec
        places = range(start, start + len(spec.dimensions))
        take_dimensions(spec, self.folder / STUDENT, folder, places, self.data.val_texts)

    def held_out(self, number: int, fold: str) -> NDArray[np.float32]:
        """Raw outputs on a filter's articles in a fold, by heads that no article of the fold has taught.

        (N, D) float32, or (N, D + 1) with a find logit, rows in the order of the filter's articles.
        """
        return load_file(self.folder / HELD_OUT / f"{fold}.safetensors")[self.filters[number]]

    @cached_property
    def heads(self) -> JointHeads:
        """Heads on a frozen encoder, and what they learn from.

        Raises:
            InputError: the encoder is not usable.
            ProviderError: torch is not installed, or the Hub cannot be reached.
        """
        texts = [text for text, _ in self._texts]
        embeddings = embedded(self.members[0].spec, self._embedder, texts, self.folder / "cache" / "embeddings")
        taught = [taught_by(m.spec, m.labelled, rows) for m, rows in zip(self.members, self._places, strict=True)]
        return JointHeads(self.filters, embeddings, [row.split for row in self._assigned], taught, self.seed)

    @cached_property
    def _embedder(self) -> Embedder:
        student = self.members[0].spec.student
        return open_embedder(student.frozen.in_window(student.window))

    @cached_property
    def data(self) -> FitData:
        """What the shared student learns from; columns are the filters' dimensions, one filter after the other.

        A label counts in training what it counts for its filter. In the validation's error each filter counts alike.
        """
        texts = [text for text, _ in self._texts]
        width = sum(len(member.spec.dimensions) for member in self.members)
        labels, weights = np.zeros((len(texts), width), np.float32), np.zeros((len(texts), width), np.float32)
        checked = np.zeros_like(weights)
        start = 0
        for member, places in zip(self.members, self._places, strict=True):
            columns = slice(start, start + len(member.spec.dimensions))
            labels[places, columns], weights[places, columns] = member.labelled.labels(), member.labelled.weights()
            val = [place for place in places if self._assigned[place].split == "val"]
            checked[val, columns] = 1 / (len(val) * len(member.spec.dimensions))
            start = columns.stop
        train, val = self._rows("train"), self._rows("val")
        return FitData(
            [texts[i] for i in train], labels[train], [texts[i] for i in val], labels[val], weights[train], checked[val]
        )

    @cached_property
    def _places(self) -> list[list[int]]:
        """For each filter, where its articles are among all texts."""
        where: dict[Text, int] = {}
        return [[where.setdefault(text, len(where)) for text in _texts(member.labelled)] for member in self.members]

    @cached_property
    def _texts(self) -> list[Text]:
        """All texts, each once."""
        return list(dict.fromkeys(text for member in self.members for text in _texts(member.labelled)))

    def _rows(self, split: str) -> list[int]:
        return [place for place, row in enumerate(self._assigned) if row.split == split]

    @cached_property
    def _assigned(self) -> list[Assignment]:
        return list(read_splits(self.folder / SPLITS).values())

    @property
    def _split_inputs(self) -> object:
        parts = []
        for member in self.members:
            spec = member.spec.model_dump(mode="json")
            data = digest([[a.text, a.labels] for a in member.labelled.articles])
            parts.append([data, [[d["name"], d["weight"]] for d in spec["dimensions"]], spec["gatekeepers"]])
        if not self.is_frozen:
            return [parts, self.seed]
        return [parts, self.seed, self.folds, tree_digest(self.splits) if self.splits else None]

    @property
    def _fit_inputs(self) -> object:
        spec = self.members[0].spec
        student = spec.student.model_dump(mode="json")
        settings = student[spec.student.backend]
        weights = [digest(member.labelled.weights().tolist()) for member in self.members]
        base = content_of(base_model_of(spec))
        finds = [digest(self._finds(member)) for member in self.members] if self.is_frozen else []
        return [*finds, spec.student.backend, student["window"], settings, base, self.filters, weights]

    def _finds(self, member: Member) -> list[object]:
        """What says which articles of a filter are finds."""
        return [taught_by(member.spec, member.labelled, ()).margins.tolist()]

    def _split(self, output: Path) -> None:
        """Gives every text a split; texts that the same filters have labels for are split among themselves."""
        if self.splits:
            write_splits(output, self._given(self.splits))
            return
        ids = [str(place) for place in range(len(self._texts))]
        groups = near_duplicate_groups(ids, [text for text, _ in self._texts])
        tops = np.zeros(len(ids))
        filters: dict[str, set[int]] = defaultdict(set)
        for number, (member, places) in enumerate(zip(self.members, self._places, strict=True)):
            np.maximum.at(tops, places, overalls(member.labelled.labels(), member.spec))
            for place in places:
                filters[groups[place]].add(number)
        strata: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, group in enumerate(groups):
            strata[tuple(sorted(filters[group]))].append(place)
        assigned: dict[int, Assignment] = {}
        for places in strata.values():
            chosen = [ids[i] for i in places], [groups[i] for i in places], tops[places]
            dealt = folds_by_group(*chosen, self.folds, self.seed) if self.folds else split_by_group(*chosen, self.seed)
            assigned |= zip(places, dealt, strict=True)
        self._check_splits(assigned)
        write_splits(output, [assigned[place] for place in range(len(ids))])

    def _given(self, path: Path) -> list[Assignment]:
        """Each text's fold, as a file gives it to the articles that have it."""
        found: dict[int, Assignment] = {}
        problems = []
        for member, places in zip(self.members, self._places, strict=True):
            rows = given_splits(path, [article.id for article in member.labelled.articles])
            for place, row in zip(places, rows, strict=True):
                first = found.setdefault(place, Assignment(str(place), row.split, row.group))
                if first.split != row.split:
                    problems.append(Problem(f"{path}: {row.id}", f"in {row.split}, its text in {first.split}", "one"))
        divided = sorted(divided_groups(list(found.values())))
        problems += [Problem(f"{path}: group {g}", "in several folds", "in one, over all filters") for g in divided]
        if not fold_names(found.values()):
            problems.append(Problem(str(path), "no folds", "a file of folds, which the backend frozen is fitted in"))
        if problems:
            raise InputError("--splits", problems[:LISTED])
        return [found[place] for place in range(len(self._texts))]

    def _check_splits(self, assigned: Mapping[int, Assignment]) -> None:
        problems = []
        for member, places in zip(self.members, self._places, strict=True):
            counts: Counter[str] = Counter(assigned[place].split for place in places)
            found = f"none of {len(places)} articles"
            problems += [
                Problem(f"{member.spec.label}: split {split}", found, "enough for each split")
                for split in fold_names(assigned.values()) or SHARES
                if not counts[split]
            ]
        if problems:
            raise InputError("--labels", problems)

    def _fit_heads(self, output: Path) -> None:
        spec = self.members[0].spec
        heads = self.heads.fit(self.folder / HELD_OUT)
        frozen.write_joint(spec.student.frozen, self._embedder, heads, output, epochs_of(len(self._texts)))
        self._write_record(output, [text for text, _ in self._texts])

    def _fit(self, output: Path) -> None:
        spec, data = self.members[0].spec, self.data
        call_helpers(spec, "FIT")
        with Bar("fit", lines=True) as bar:
            fit_student(spec, data, output, self.seed, bar)
        self._write_record(output, data.train_texts)

    def _write_record(self, output: Path, learnt: Sequence[str]) -> None:
        places = np.linspace(0, len(learnt) - 1, SHARED_TEXTS).round().astype(int)
        texts = tuple(learnt[place] for place in dict.fromkeys(places.tolist()))
        JointRecord(filters=self.filters, texts=texts).write(output / JOINT_FILE)


@dataclass(frozen=True, slots=True)
class Share:
    """One filter's part of a joint training."""

    joint: Joint
    number: int

    def key(self) -> list[object]:
        """What a student that is taken from it depends on."""
        return [*self.joint.key, self.number]

    def assignments(self) -> list[Assignment]:
        """The split of this filter's articles. See `Joint.assignments`."""
        return self.joint.assignments(self.number)

    def others(self) -> list[str]:
        """Texts of other filters that the student may know. See `Joint.others`."""
        return self.joint.others(self.number)

    def held_out(self, fold: str) -> NDArray[np.float32]:
        """Raw outputs on this filter's articles in a fold. See `Joint.held_out`."""
        return self.joint.held_out(self.number, fold)

    def take(self, folder: Path) -> None:
        """Writes this filter's student. See `Joint.take`."""
        self.joint.take(self.number, folder)


def _texts(labelled: LabelledSet) -> list[Text]:
    """Each article's text, told apart from others of the same filter with the same text."""
    seen: Counter[str] = Counter()
    found = []
    for article in labelled.articles:
        found.append((article.text, seen[article.text]))
        seen[article.text] += 1
    return found
