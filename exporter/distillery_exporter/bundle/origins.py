"""The pretrained models that a bundle's weights derive from, each with its Hub id and licence where they are known."""

from dataclasses import dataclass
from pathlib import Path

from distillery_trainer.models.model_card import stated
from distillery_trainer.models.records import BaseRecord
from distillery_trainer.models.static_embedder import TABLE_FOLDER

TABLE_NAME = "the static token table of distillery-trainer"


@dataclass(frozen=True, slots=True)
class Origin:
    """What one stage stands on. `hub_ids` are of the Hub; `licence` is None where the model's card states none."""

    stage: str
    name: str
    hub_ids: tuple[str, ...]
    licence: str | None


def origin(run: Path, stage: str) -> Origin:
    """The pretrained model of a run's stage; its card is read where its folder still is."""
    record = run / stage / "base.json"
    if not record.is_file():
        table = stated(TABLE_FOLDER)
        return Origin(stage, TABLE_NAME, table.base_models, table.licence)
    base = BaseRecord.read(record)
    found = stated(Path(base.folder))
    ids = (base.public_name,) if base.identity.get("commit") else found.base_models
    return Origin(stage, base.public_name, ids, found.licence)
