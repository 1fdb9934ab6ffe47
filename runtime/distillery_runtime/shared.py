"""What bundles have in common, opened once: graphs and tokenizers that are equal byte for byte.

Several filters often share one encoder and one tokenizer. Bundles opened with the same `Shared` get the same objects
for them, so that memory is spent once and a panel of filters can see that one pass serves all.
"""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from distillery_runtime.manifest import FileEntry
from distillery_runtime.session import Graph
from distillery_runtime.spec import Window
from distillery_runtime.variants import Device
from distillery_runtime.window import TokenWindow


class Shared:
    """Opened graphs and token windows by content. It keeps what it opened for as long as it lives."""

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}
        self._graphs: dict[Hashable, Graph] = {}
        self._windows: dict[Hashable, TokenWindow] = {}

    def learn(self, folder: Path, files: Iterable[FileEntry]) -> None:
        """Takes over the digests of a checked bundle's files, so that none is read twice for its digest."""
        self._digests.update({folder / entry.path: entry.sha256 for entry in files})

    def graph(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], device: Device, threads: int | None
    ) -> Graph:
        """Opens a graph, or gives the one opened from equal files for the same use. Errors as in `Graph`."""
        key = (self._content(path), tuple(inputs), tuple(outputs), device, threads)
        if key not in self._graphs:
            self._graphs[key] = Graph(path, inputs, outputs, device, threads)
        return self._graphs[key]

    def window(self, tokenizer: Path, window: Window, prefix: str) -> TokenWindow:
        """Opens a token window, or gives the one of an equal tokenizer, window and prefix."""
        key = (self._digest(tokenizer), window.model_dump_json(), prefix)
        if key not in self._windows:
            self._windows[key] = TokenWindow(tokenizer, window, prefix)
        return self._windows[key]

    def _content(self, path: Path) -> tuple[str, ...]:
        """Digests of a graph and of its data files: those beside it whose names the graph's bytes spell out."""
        data = path.read_bytes()
        beside = sorted(file for file in path.parent.iterdir() if file != path and file.name.encode() in data)
        return (self._digest(path), *(self._digest(file) for file in beside))

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            with path.open("rb") as file:
                self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[path]
