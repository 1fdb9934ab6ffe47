"""Where a pretrained model's files are: a local folder, or one fetched from the Hugging Face Hub."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from pydantic import JsonValue

from distillery_runtime.bundles.hub_errors import TOKEN, Wording, explained
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.integrity import file_digest
from distillery_runtime.spec.model import Window
from distillery_trainer.models.model_card import CARD_NAME
from distillery_trainer.models.sentence_models import MODULES, PROMPTS, READING, statement_files

_NEEDED = ["config.json", "tokenizer.json", "*.safetensors"]
_FETCHED = ["*.json", "*.safetensors", CARD_NAME]
_LEFT_OUT = ["*/*"]  # other formats of the same model live in sub-folders

_FOLDER = "a local folder with --base-model DIR"
_ALLOWED = f"the licence accepted at https://huggingface.co/{{repo}} and {TOKEN} set, or a folder: --base-model DIR"
_UNKNOWN = ("no such public model on the Hub", f"another spelling; if it is private, {_ALLOWED}")
_MODEL = Wording(
    where="base model",
    no_id=("no such folder, and not a Hub id", "a folder or an id like owner/name"),
    offline=f"{{repo}}: not in the Hub's cache and HF_HUB_OFFLINE is set, expected HF_HUB_OFFLINE unset, or {_FOLDER}",
    no_answer=f"{{repo}}: cannot be fetched ({{error}}), expected a network connection to the Hub, or {_FOLDER}",
    no_revision=("no revision {revision!r}", "a branch, tag or commit of this model"),
    no_file=_UNKNOWN,
    gated=("the Hub gives it only to those who accept its licence", _ALLOWED),
    unknown=_UNKNOWN,
    refused=("the Hub refuses access (HTTP {status})", _ALLOWED),
)

# These count positions from one after the padding id, so as many of the position table's rows are never used.
OFFSET_POSITIONS = frozenset({"camembert", "data2vec-text", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})


def resolve(model: str, revision: str) -> Path:
    """Gives the folder that holds a model's `config.json`, `tokenizer.json` and safetensors weights.

    Args:
        model: a local folder, used as it is, or a Hub id such as `google/gemma-3-1b-pt`, fetched into the Hub's cache.
        revision: the branch, tag or commit to fetch; not used for a local folder.

    Raises:
        InputError: a file is missing, or the Hub does not give this model to us; says what to do about it.
        ProviderError: the Hub cannot be reached and its cache does not hold the model.
    """
    local = Path(model).expanduser()
    folder = local.resolve() if local.is_dir() else _fetch(model, revision, allow=_FETCHED, ignore=_LEFT_OUT)
    if not local.is_dir() and (further := statement_files(folder)):
        _fetch(model, revision, allow=further, ignore=None)
    if missing := _missing(folder):
        raise InputError(f"{model} ({folder})", [Problem(name, "missing", "a file of the model") for name in missing])
    return folder


def local_folder(model: str, revision: str) -> Path | None:
    """The folder that `resolve` would give, or None where not all of it is on this machine; nothing is fetched."""
    folder = Path(model).expanduser().resolve()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return None
        if not all((folder / name).is_file() for name in statement_files(folder)):
            return None
    return None if _missing(folder) else folder


def identity(folder: Path) -> dict[str, JsonValue]:
    """Says which model a folder holds, for a run's lineage, without any path of this machine.

    Returns:
        A JSON object: `name` (Hub id where the folder is in the Hub's cache, else the folder's name), `commit` (Hub
        commit or null), `model_type`, `config_sha256`, `size_bytes` by file name, `weights_sha256`, and of a
        sentence-transformers folder `statements_sha256`: what it says beside them.

    Raises:
        InputError: `config.json` is no JSON object.
    """
    name, commit = _hub_name(folder)
    files = [folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]
    stated = [folder / name for name in (MODULES, PROMPTS, READING, *statement_files(folder))]
    statements: dict[str, JsonValue] = {
        path.relative_to(folder).as_posix(): _digest(path) for path in stated if path.is_file()
    }
    further: dict[str, JsonValue] = {"statements_sha256": statements} if statements else {}
    return {
        "name": name,
        "commit": commit,
        "model_type": str(_config(folder).get("model_type")),
        "config_sha256": hashlib.sha256(files[0].read_bytes()).hexdigest(),
        "size_bytes": {path.name: path.stat().st_size for path in files},
        "weights_sha256": [_digest(path) for path in files[2:]],
        **further,
    }


def _digest(path: Path) -> str:
    """A file's digest, computed once as long as the file is not written: a run asks for its models' many times."""
    file = path.resolve()
    state = file.stat()
    return _digest_of(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of(
    file: Path,
    *state: int,  # noqa: ARG001 - size and time of writing, so that a file that has changed is read again
) -> str:
    return file_digest(file)[1]


def check_window(folder: Path, window: Window) -> None:
    """Sees that a model can read as many tokens as the window may give it.

    Raises:
        InputError: the window is larger than the model's table of positions.
    """
    config = _config(folder)
    limit, padding_id = config.get("max_position_embeddings"), config.get("pad_token_id")
    if not isinstance(limit, int):
        return
    if config.get("model_type") in OFFSET_POSITIONS and isinstance(padding_id, int):
        limit -= padding_id + 1
    if window.max_tokens > limit:
        problem = Problem("window.max_tokens", str(window.max_tokens), f"at most {limit}, the limit of this model")
        raise InputError(_hub_name(folder)[0], [problem])


def _missing(folder: Path) -> list[str]:
    return [name for name in _NEEDED if not any(path.is_file() for path in folder.glob(name))]


def check_layers(model: str, layers: Sequence[int], most: int) -> None:
    """Sees that a model has the layers whose states are joined.

    Raises:
        InputError: one of them is above `most`, the number of its layers.
    """
    if layers and max(layers) > most:
        raise InputError(model, [Problem("layers", str(max(layers)), f"1 to {most}, the layers of this model")])


def _fetch(model: str, revision: str, allow: list[str], ignore: list[str] | None) -> Path:
    with explained(_MODEL, model, revision):
        return Path(snapshot_download(model, revision=revision, allow_patterns=allow, ignore_patterns=ignore))


def _hub_name(folder: Path) -> tuple[str, str | None]:
    """The Hub id and commit, from the cache's `models--owner--name/snapshots/<commit>`; else the folder's name."""
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return "/".join(cached.removeprefix("models--").split("--")), folder.name
    return folder.name, None


def _config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(str(path), [Problem("config.json", f"not JSON ({error})", "a model's config")]) from error
    if not isinstance(config, dict):
        raise InputError(str(path), [Problem("config.json", type(config).__name__, "a JSON object")])
    return config
