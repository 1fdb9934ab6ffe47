"""A run's calibration maps as a file: `calibration.json` of the student and of the probe."""

import json
from pathlib import Path

from distillery_runtime.spec.calibration import Calibration, CalibrationMap
from distillery_trainer.store.files import write_json


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes calibration maps."""
    write_json(path, {"schema_version": 1, "maps": [m.model_dump(mode="json") for m in calibration.maps]})


def read_calibration(path: Path) -> Calibration:
    """Reads calibration maps written by a run."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return Calibration(tuple(CalibrationMap.model_validate_json(json.dumps(m)) for m in record["maps"]))
