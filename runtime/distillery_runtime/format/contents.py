"""The kinds of files that a bundle holds: for each role its ending, its largest size, and what its bytes must be."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.format.manifest import FileEntry
from distillery_runtime.format.onnx_scan import scan_graph


def check_content(entry: FileEntry, data: bytes) -> Mapping[str, int]:
    """Sees that a file is of the kind that its role says; data files of graphs, which are plain numbers, excepted.

    Returns:
        For a graph, the paths of its data files in the bundle and how many bytes of each it needs.

    Raises:
        ValueError: the file is of another kind.
    """
    if entry.role == "graph":
        folder = PurePosixPath(entry.path).parent
        return {(folder / name).as_posix(): end for name, end in scan_graph(data).data_files.items()}
    if entry.role == "tokenizer" and not (data.lstrip()[:1] == b"{" and data.rstrip()[-1:] == b"}"):
        raise ValueError("not JSON, expected a tokenizer.json")  # all of it is checked before it is opened
    if entry.role in ("spec", "calibration", "quality", "reference"):
        try:
            parse_json(data)
        except JsonError as error:
            raise ValueError(f"not JSON ({error})") from error
    if entry.role in ("golden", "card"):
        data.decode()  # UnicodeDecodeError is a ValueError
        if b"\0" in data:
            raise ValueError("a zero byte, expected text")
    return {}
