"""The small JSON files beside a fitted stage's weights: their base model, how encoder and head are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.reading import describe
from distillery_trainer.models import base_model
from distillery_trainer.models.model_card import stated
from distillery_trainer.models.sentence_models import Pooling
from distillery_trainer.models.static_embedder import TABLE_FOLDER


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = 1

    def write(self, path: Path) -> None:
        """Writes the record beside its place, then renames it."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a record.

        Raises:
            InputError: the file is missing or is no such record; every problem is listed.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(str(path), [Problem(path.name, error.strerror or "no file", "a readable file")]) from error
        except ValidationError as error:
            raise InputError(str(path), [describe(item) for item in error.errors(include_url=False)]) from error


class BaseRecord(_Record):
    """`base.json`: the base model as it was asked for (`model`, `revision`), where it was found, and what it was."""

    model: str
    revision: str
    folder: str
    identity: dict[str, JsonValue]

    @property
    def public_name(self) -> str:
        """The Hub id, or the folder's name for a model of this machine: fit to be published."""
        return str(self.identity["name"])


class EncoderRecord(_Record):
    """`encoder.json`: what is put before every text, and how token states become one vector."""

    prefix: str
    pooling: Literal["mean", "cls"]


class FrozenRecord(_Record):
    """`frozen.json`: what a config says of a frozen encoder's embedding; null for as the model's folder says."""

    prefix: str | None
    pooling: Pooling | None
    layers: tuple[int, ...]


class BinsRecord(_Record):
    """`bins.json`: the middles of the bins that a head gives logits for; the score is what they expect."""

    centres: Annotated[tuple[float, ...], Field(min_length=2)]


class JointRecord(_Record):
    """`joint.json`: this student's backbone is that of several filters' students. `texts`: some that it learnt from."""

    filters: Annotated[tuple[str, ...], Field(min_length=2)]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """What one stage stands on. `hub_ids` are of the Hub; `licence` is None where the model's card states none."""

    stage: str
    name: str
    hub_ids: tuple[str, ...]
    licence: str | None


TABLE_NAME = "the static token table of distillery-trainer"
BINS_FILE = "bins.json"
JOINT_FILE = "joint.json"


def read_bins(folder: Path) -> NDArray[np.float32] | None:
    """The bins of a saved student's head: (K,) float32, or None where the head gives scores.

    Raises:
        InputError: the record is damaged.
    """
    path = folder / BINS_FILE
    return np.array(BinsRecord.read(path).centres, dtype=np.float32) if path.exists() else None


def read_joint(folder: Path) -> JointRecord | None:
    """What a saved student says of others that share its backbone, or None where it was trained alone.

    Raises:
        InputError: the record is damaged.
    """
    path = folder / JOINT_FILE
    return JointRecord.read(path) if path.exists() else None


def find_base(model: str, revision: str) -> BaseRecord:
    """Resolves a base model and describes it.

    Raises:
        InputError: the model is not usable.
        ProviderError: the Hub cannot be reached.
    """
    folder = base_model.resolve(model, revision)
    return BaseRecord(model=model, revision=revision, folder=str(folder), identity=base_model.identity(folder))


def base_folder(record: BaseRecord) -> Path:
    """Gives the folder of a recorded base model, fetching it again when it is gone.

    Raises:
        InputError: the model there is not the one recorded.
    """
    folder = Path(record.folder)
    if not folder.is_dir():
        commit = record.identity.get("commit")
        folder = base_model.resolve(record.model, str(commit) if commit else record.revision)
    found = base_model.identity(folder)
    same = ["config_sha256", "size_bytes", "weights_sha256"]
    if "statements_sha256" in record.identity:  # not in records of before
        same.append("statements_sha256")
    if any(found.get(key) != record.identity.get(key) for key in same):
        problem = Problem("base model", "other files than the student was trained on", str(record.identity))
        raise InputError(str(folder), [problem])
    return folder


def origin(folder: Path) -> Origin:
    """The pretrained model that the stage in a run's folder stands on; its card is read where that still is.

    Raises:
        InputError: the record of the base model is damaged.
    """
    path = folder / "base.json"
    if not path.is_file():
        table = stated(TABLE_FOLDER)
        return Origin(folder.name, TABLE_NAME, table.base_models, table.licence)
    base = BaseRecord.read(path)
    found = stated(Path(base.folder))
    ids = (base.public_name,) if base.identity.get("commit") else found.base_models
    return Origin(folder.name, base.public_name, ids, found.licence)
