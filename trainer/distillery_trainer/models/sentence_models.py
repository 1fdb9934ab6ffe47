"""Checks of a sentence-transformers folder against a filter's config: pooling, modules, prompts and lengths.

Here a model is its transformer, the pooling and the prefix of the config, and a window. Whatever else such a folder
asks for would be left out in silence, so it is refused: another pooling, a Dense or an unknown module, a default prompt
that is not the prefix, lower-casing, a length below the window's. `Normalize` is accepted: embeddings are brought to
length 1 anyway, and a student's head learns the scale of its states. A plain transformers folder has none of the files.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
READING = "sentence_bert_config.json"

Pooling = Literal["mean", "cls", "lasttoken"]
Json = Mapping[str, object]

_PACKAGE = "sentence_transformers."
_HARMLESS = ("Normalize", "Dropout")  # Dropout does nothing to a model that answers
_OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def module_configs(folder: Path) -> list[str]:
    """The config files of a folder's modules, beside those of the transformer itself, as paths within it."""
    try:
        return [f"{path}/config.json" for _, path in _modules(folder) if path]
    except InputError:
        return []  # `check_sentence_model` says what is wrong


def copy_statements(source: Path, target: Path) -> None:
    """Copies what a folder says beside its weights to a model that was made of it."""
    for name in (MODULES, PROMPTS, READING, *module_configs(source)):
        if (source / name).is_file():
            write_text(target / name, (source / name).read_text(encoding="utf-8"))


def check_sentence_model(
    model: str, folder: Path, pooling: Pooling, prefix: str, frozen_tokens: int | None = None
) -> None:
    """Sees that nothing that the folder asks for would be left out.

    Args:
        model: its name, for messages.
        folder: its files.
        pooling: how the config pools its states.
        prefix: what the config puts before every text.
        frozen_tokens: the window of a model that is not trained any further, None for one that is.

    Raises:
        InputError: with every problem found.
    """
    problems = [
        *_check_modules(folder, pooling, prefix),
        *_check_prompts(folder, prefix),
        *_check_reading(folder, frozen_tokens),
    ]
    if problems:
        raise InputError(model, problems)


def _check_modules(folder: Path, pooling: Pooling, prefix: str) -> Iterator[Problem]:
    seen: list[str] = []
    for kind, path in _modules(folder):
        name = kind.rpartition(".")[2] if kind.startswith(_PACKAGE) else kind
        where = f"{MODULES}: {path or kind}"
        if name in seen:
            yield Problem(where, f"a second module {name}", "one of each")
        elif name == "Pooling":
            yield from _check_pooling(folder, f"{path}/config.json", pooling, prefix)
        elif name == "Transformer":
            if path:
                yield Problem(where, f"the transformer in {path}", "its files in the folder itself")
            if seen:
                yield Problem(where, f"a Transformer after {', '.join(seen)}", "the Transformer first")
        elif name not in _HARMLESS:
            yield Problem(where, f"a module {name}", "Transformer, Pooling and Normalize alone: choose another model")
        seen.append(name)


def _check_pooling(folder: Path, path: str, pooling: Pooling, prefix: str) -> Iterator[Problem]:
    config = _read(folder / path, path)
    if config is None:
        yield Problem(path, "missing", "the file that says how this model is pooled")
        return
    modes = _modes(config)
    if modes != [pooling]:
        usable = modes in (["mean"], ["cls"]) and pooling != "lasttoken"
        cure = f"set pooling: {modes[0]} in the config" if usable else "choose another model"
        yield Problem(path, f"pooling by {' and '.join(modes) or 'nothing'}", f"{pooling}, as the config says: {cure}")
    if config.get("include_prompt") is False and prefix:
        yield Problem(path, "include_prompt: false", "true beside a prefix, whose tokens are pooled too")


def _modes(config: Json) -> list[str]:
    """The pooling modes that a config switches on, in either of the library's spellings; the mean if it names none."""
    found = config.get("pooling_mode")
    if found is not None:
        return [str(mode) for mode in found] if isinstance(found, list) else str(found).split("+")
    named = [key for key in config if key.startswith("pooling_mode_")]
    return [_OLD_MODES.get(key, key) for key in named if config[key]] if named else ["mean"]


def _check_prompts(folder: Path, prefix: str) -> Iterator[Problem]:
    config = _read(folder / PROMPTS, PROMPTS) or {}
    kind, name, prompts = config.get("model_type"), config.get("default_prompt_name"), config.get("prompts")
    if kind not in (None, "SentenceTransformer"):
        yield Problem(f"{PROMPTS}: model_type", repr(kind), "SentenceTransformer: choose another model")
    if name is None:
        return
    prompt = prompts.get(str(name)) if isinstance(prompts, dict) else None
    if prompt is None:
        yield Problem(f"{PROMPTS}: default_prompt_name", repr(name), "the name of one of its prompts")
    elif prompt != prefix:
        found = f"{name!r}, which is {prompt!r}, where the config's prefix is {prefix!r}"
        cure = f"the same: set prefix: {json.dumps(prompt)} in the config"
        yield Problem(f"{PROMPTS}: default_prompt_name", found, cure)


def _check_reading(folder: Path, frozen_tokens: int | None) -> Iterator[Problem]:
    config = _read(folder / READING, READING) or {}
    if config.get("do_lower_case") and not _lowers(folder / "tokenizer.json"):
        expected = "false, or a tokenizer.json that does so itself: choose another model"
        yield Problem(f"{READING}: do_lower_case", "true", expected)
    limit = config.get("max_seq_length")
    if isinstance(limit, int) and frozen_tokens is not None and frozen_tokens > limit:
        found = f"{limit}, where window.max_tokens is {frozen_tokens}"
        yield Problem(f"{READING}: max_seq_length", found, f"no more than that: set window.max_tokens: {limit}")


def _lowers(tokenizer_json: Path) -> bool:
    normalizer = Tokenizer.from_file(str(tokenizer_json)).normalizer
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Each module's type and folder: those of modules.json, or those whose folders lie there without it."""
    found = _load(folder / MODULES, MODULES)
    if found is None:
        beside = [path.parent.name for path in sorted(folder.glob("[0-9]*_*/config.json"))]
        return [(f"{_PACKAGE}models.{name.partition('_')[2]}", name) for name in beside]
    if not isinstance(found, list) or not all(isinstance(m, dict) and isinstance(m.get("type"), str) for m in found):
        raise _problem(folder, MODULES, "something else", "a list of modules, each with a type and a path")
    return [(module["type"], str(module.get("path") or "")) for module in found]


def _read(path: Path, name: str) -> Json | None:
    found = _load(path, name)
    if found is not None and not isinstance(found, dict):
        raise _problem(path.parent, name, type(found).__name__, "a JSON object")
    return found


def _load(path: Path, name: str) -> object:
    """The content of a JSON file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (ValueError, RecursionError) as error:
        raise _problem(path.parent, name, f"not JSON ({error})", "a file of the model") from error


def _problem(folder: Path, name: str, found: str, expected: str) -> InputError:
    return InputError(str(folder), [Problem(name, found, expected)])
