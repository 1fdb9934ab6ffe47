"""Makes a fitted Gemma student ready to be measured elsewhere: merged weights of the words needed, ids, no text.

    python benchmarks/gpu_pack.py --run RUN --articles FILE --out DIR

Of the vocabulary, most of a small model's weights, only the tokens of the articles are kept, and ids are renumbered.
The articles of the run's calibration and test splits, with their labels, are for the gate, those of --articles for
parity.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.gpu_student import CHECKPOINT, HEAD, META, SAMPLE, flatten
from benchmarks.parity_result import news
from benchmarks.parity_texts import Rows, read_sample
from distillery_exporter.build import whole_run
from distillery_exporter.graphs.watching import residual_scale
from distillery_exporter.graphs.weights import Checkpoint, MergedCheckpoint
from distillery_exporter.variants.models import RESIDUAL_LIMIT, Texts, gemma_regressor
from distillery_exporter.variants.stage_models import published_spec
from distillery_runtime.tokens.window import TokenIds, TokenWindow
from distillery_trainer.models.records import BaseRecord, base_folder
from distillery_trainer.runs.run import Run

TABLE = "model.embed_tokens.weight"
MAX_TOKENS = 512
SPECIAL = 4  # padding, end, beginning and unknown keep their ids, which the config names


@dataclass(frozen=True, slots=True)
class GateArticles:
    """The gate's articles: token ids; (N, D) labels; (N,) bool, whether an article is of the calibration split."""

    rows: Rows
    labels: NDArray[np.float32]
    fitted: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> int:
    """Packs one run's student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a finished run with a Gemma student")
    parser.add_argument("--articles", type=Path, required=True, metavar="FILE", help="JSON lines with title and text")
    parser.add_argument("--count", type=int, default=64, help="articles for parity (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    pack(whole_run(options.run), options.articles, options.count, options.out)
    return 0


def pack(run: Run, articles: Path, count: int, out: Path) -> None:
    """Writes the folder that `gpu_student.read_student` reads."""
    student, dimensions = run.folder / "student", len(run.spec.dimensions)
    sample = read_sample(articles, student / "tokenizer.json", count, MAX_TOKENS, with_long=False)
    gate = _gate_articles(run)
    kept = _kept_ids([*sample.rows, *sample.tuning, *gate.rows])
    news(f"{len(sample.rows)} and {len(gate.rows)} articles, {len(kept)} tokens of the vocabulary")
    merged = MergedCheckpoint(Checkpoint(base_folder(BaseRecord.read(student / "base.json"))), student)
    _write_checkpoint(merged, kept, out / CHECKPOINT)
    head = merged.get("score.weight", (dimensions, _hidden(merged)))
    merged.check_complete()
    np.save(out / HEAD, head)
    parts = {"parity": _renumbered(sample.rows, kept), "gate": _renumbered(gate.rows, kept)}
    arrays = {key: array for name, rows in parts.items() for key, array in flatten(name, rows).items()}
    np.savez(out / SAMPLE, labels=gate.labels, fitted=gate.fitted, **arrays)  # type: ignore[arg-type]  # its stub takes `**kwds` for a bool
    model = gemma_regressor(merged, dimensions, MAX_TOKENS, Texts(lambda: sample.tuning, out))
    record = {
        "schema_version": 1,
        "name": str(BaseRecord.read(student / "base.json").identity["name"]),
        "max_tokens": MAX_TOKENS,
        "residual_scale": residual_scale(model.maxima, RESIDUAL_LIMIT),
        "spec": published_spec(run.spec),
        "calibration": [m.model_dump(mode="json") for m in run.read_out().maps.expected.maps],
    }
    (out / META).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _gate_articles(run: Run) -> GateArticles:
    if run.labelled is None:
        raise SystemExit(f"{run.folder}: its labels files are gone or have changed, expected those it was made from")
    fitted, held_out = run.places("calibration"), run.places("test")
    chosen = run.labelled.select([*fitted, *held_out])
    window = TokenWindow(run.folder / "student" / "tokenizer.json", run.spec.student.window)
    is_fitted = np.arange(len(chosen.articles)) < len(fitted)
    return GateArticles(window.encode(chosen.texts), chosen.labels().astype(np.float32), is_fitted)


def _kept_ids(rows: Rows) -> NDArray[np.int64]:
    """The special ids and those of the rows, ascending."""
    return np.unique(np.concatenate([np.arange(SPECIAL), *(row.ids for row in rows)]))


def _renumbered(rows: Rows, kept: NDArray[np.int64]) -> Rows:
    return [TokenIds(np.searchsorted(kept, row.ids), row.truncated) for row in rows]


def _write_checkpoint(merged: MergedCheckpoint, kept: NDArray[np.int64], folder: Path) -> None:
    """The merged model in fp32, with the kept rows of the table alone."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[np.float32]] = {}
    for path in sorted(merged.where.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
        tensors |= {name: np.ascontiguousarray(merged.get(name, shape)) for name, shape in shapes.items()}
    tensors[TABLE] = tensors[TABLE][kept]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(merged.config) | {"vocab_size": len(kept), "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _hidden(merged: MergedCheckpoint) -> int:
    return int(str(merged.config["hidden_size"]))


if __name__ == "__main__":
    sys.exit(main())
