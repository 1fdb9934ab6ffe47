"""What bundles have in common, opened once: graphs and tokenizers that are equal byte for byte.

Several filters often share one encoder and one tokenizer. Bundles opened with the same `Shared` get the same objects
for them, so that memory is spent once and a panel of filters can see that one pass serves all.
"""

import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

from distillery_runtime.errors import BundleError
from distillery_runtime.format.integrity import (
    ATTEMPTS,
    CHANGED,
    Checked,
    State,
    file_digest,
    read_unchanged,
    state_of,
    unchanged_state,
)
from distillery_runtime.format.onnx_scan import scan_graph
from distillery_runtime.format.variants import Device
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow


class Shared:
    """Opened graphs and token windows by content. It keeps what it opened for as long as it lives.

    Of a checked bundle only bytes that were checked are opened: graphs and tokenizers from memory. Data files of graphs
    are too large for that; one that changes between the check and the moment when it is open is refused.
    """

    def __init__(self) -> None:
        self._places: dict[Path, Path] = {}
        self._digests: dict[Path, str] = {}
        self._states: dict[Path, State] = {}
        self._graphs: dict[Hashable, Graph] = {}
        self._windows: dict[Hashable, TokenWindow] = {}

    def learn(self, files: Checked) -> None:
        """Takes over what is known of a checked bundle's files: places, digests, and the state of data files."""
        self._places.update({files.folder / name: place for name, place in files.places.items()})
        self._digests.update({files.places[entry.path]: entry.sha256 for entry in files.manifest.files})
        self._states.update({files.places[name]: state for name, state in files.states.items()})

    def graph(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], device: Device, threads: int | None
    ) -> Graph:
        """Opens a graph, or gives the one opened from equal files for the same use. Errors as in `Graph`.

        `path` is where it would lie in its bundle's folder; of a checked bundle it may be shared and lie elsewhere.
        """
        path = self._places.get(path, path)
        model = self._read(path)
        try:
            data_files = [path.parent / name for name in sorted(scan_graph(model).data_files)]
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error
        digests = (hashlib.sha256(model).hexdigest(), *map(self._digest, data_files))
        key = (digests, tuple(inputs), tuple(outputs), device, threads)
        if key not in self._graphs:
            for _ in range(ATTEMPTS):
                graph = Graph(path, inputs, outputs, device, threads, model)
                changed = [f for f in data_files if f in self._states and state_of(f) != self._states[f]]
                if not changed:
                    break
                self._states.update({file: unchanged_state(file, self._digests[file]) for file in changed})
            else:
                raise BundleError(f"{path}: its data {CHANGED}")
            self._graphs[key] = graph
        return self._graphs[key]

    def window(self, tokenizer: Path, window: Window, prefix: str) -> TokenWindow:
        """Opens a token window, or gives the one of an equal tokenizer, window and prefix; the path as in `graph`."""
        tokenizer = self._places.get(tokenizer, tokenizer)
        source = self._read(tokenizer)
        key = (hashlib.sha256(source).hexdigest(), window.model_dump_json(), prefix)
        if key not in self._windows:
            self._windows[key] = TokenWindow(tokenizer, window, prefix, source)
        return self._windows[key]

    def _read(self, path: Path) -> bytes:
        return read_unchanged(path, self._digests[path]) if path in self._digests else path.read_bytes()

    def _digest(self, path: Path) -> str:
        return self._digests.get(path) or file_digest(path)[1]
