"""What a worker and its controller say to each other: JSON lines over stdin and stdout.

    {"open": {...}}            -> {"ready": true, "versions": {...}}
    {"run": {"ids": [...]}}    -> {"seconds": 0.1, "output": [...]}

A failure is {"error": "..."}; the worker then ends. Nothing is computed between the lines.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TextIO

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a worker is opened with.

    `model`: a folder in Hugging Face form. `work`: where it may keep what it makes of it. `head`: a file of (D, H)
    float32 rows for a decoder's last state, None where the state itself is wanted. `calibration`: token ids of texts
    that are not timed. `options`: what tells one form of this peer from another.
    """

    model: Path
    work: Path
    kind: str
    threads: int
    head: Path | None
    calibration: Sequence[Sequence[int]]
    options: Mapping[str, Any]  # Any: JSON

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Opening":  # Any: JSON
        """Reads what the controller wrote."""
        head = record["head"]
        return cls(
            model=Path(record["model"]),
            work=Path(record["work"]),
            kind=record["kind"],
            threads=record["threads"],
            head=Path(head) if head else None,
            calibration=record["calibration"],
            options=record["options"],
        )


class Peer(Protocol):
    """A model, opened. What is not the pass itself, such as turning ids into tensors, is done in `prepare`."""

    def prepare(self, ids: Sequence[int]) -> Any:  # Any: each peer's own kind of input
        """One text's input."""

    def forward(self, inputs: Any) -> Any:  # Any: as above
        """The pass from the input to the pooled state or the raw outputs."""

    def output(self, result: Any) -> Vector:  # Any: as above
        """What `forward` gave as numbers: the embedding, of length 1, or the D raw outputs."""


def serve(open_peer: Callable[[Opening], Peer], packages: Sequence[str]) -> None:
    """Answers the controller until it closes the pipe.

    Args:
        open_peer: opens the model.
        packages: those whose versions are told.
    """
    replies = _take_stdout()
    peer: Peer | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if "open" in message:
                peer = open_peer(Opening.from_json(message["open"]))
                reply: dict[str, object] = {"ready": True, "versions": {name: version(name) for name in packages}}
            else:
                assert peer is not None
                reply = _run(peer, message["run"]["ids"])
        except Exception as error:  # noqa: BLE001  # the process's outer edge: whatever it was, the controller is told
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {_first_line(error)}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _run(peer: Peer, ids: Sequence[int]) -> dict[str, object]:
    inputs = peer.prepare(ids)
    began = time.perf_counter()
    result = peer.forward(inputs)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "output": [float(value) for value in peer.output(result)]}


def _take_stdout() -> TextIO:
    """The pipe to the controller; what libraries print goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else ""
