"""What a sentence-transformers folder says of its model: modules, pooling, prompts and lengths.

A frozen encoder is read as its folder says (`read_embedder`): where the config says the same or nothing, that is what
is done in training and in the exported graph; where they differ, or a module is not known, it is an error.

A base model that is trained further is its transformer, the pooling and the prefix of the config, and a window
(`check_sentence_model`). Whatever else its folder asks for would be left out in silence, so it is refused; `Normalize`
is accepted, as the head learns the scale of its states. A plain transformers folder has none of these files.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from tokenizers import Tokenizer

from distillery_runtime.errors import InputError, Problem

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
READING = "sentence_bert_config.json"
TOKENIZER = "tokenizer_config.json"

Pooled = Literal["mean", "cls", "max", "lasttoken"]  # one vector of a text's token states
Pooling = Literal[Pooled, "mean_max"]
Activation = Literal["Identity", "ReLU", "Sigmoid", "Tanh"]
Json = Mapping[str, object]

# How the library runs a transformer, which is the only way that there is here.
_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    **dict.fromkeys(("model_args", "model_kwargs", "config_args", "config_kwargs"), "nothing"),
}
_PACKAGE = "sentence_transformers."
_POOLINGS = "mean, cls, max or lasttoken"
_HARMLESS = ("Normalize", "Dropout")  # Dropout does nothing to a model that answers
_OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer and an activation; `path` is the folder of its weights, `width` the number of its outputs."""

    path: str
    width: int
    activation: Activation


@dataclass(frozen=True, slots=True)
class Reading:
    """How an embedding is made of a text: what is put before it, how token states are pooled, and what follows.

    `layers`: numbers of the hidden layers that are pooled, normalised and joined; the last one alone if empty.
    `dense`: layers that the pooled state goes through. `normalise`: whether what comes of it is brought to length 1.
    `is_sentence_model`: whether sentence-transformers made the folder.
    """

    prefix: str
    pooling: Pooling
    layers: tuple[int, ...]
    dense: tuple[Dense, ...]
    normalise: bool
    is_sentence_model: bool

    def width(self, hidden: int) -> int:
        """The size of an embedding, of an encoder whose states have `hidden` columns."""
        return self.dense[-1].width if self.dense else hidden * max(1, len(self.layers)) * len(parts_of(self.pooling))


def parts_of(pooling: Pooling) -> tuple[Pooled, ...]:
    """The poolings whose vectors are joined."""
    return ("mean", "max") if pooling == "mean_max" else (pooling,)


def read_embedder(
    model: str,
    folder: Path,
    prefix: str | None = None,
    pooling: Pooling | None = None,
    layers: Sequence[int] = (),
    tokens: int = 0,
) -> Reading:
    """Reads how a frozen encoder makes embeddings: as its folder says, or of a plain one the mean brought to length 1.

    Args:
        model: its name, for messages.
        folder: its files.
        prefix: what the config puts before every text; None for the folder's default prompt.
        pooling: how the config pools token states; None for as the folder says. `mean_max` reads hidden layers,
            whatever the folder says of its own embedding.
        layers: numbers of hidden layers whose pooled states are joined.
        tokens: the most that a text may have.

    Raises:
        InputError: with every problem found: what the config says is not what the folder says, or the folder asks for
            a module, a pooling or an option that is not known.
    """
    modules = _modules(folder)
    names = [_name(kind) for kind, _ in modules]
    used_prefix = (_default_prompt(folder) or "") if prefix is None else prefix
    stated = _stated_pooling(folder, modules)
    used: Pooling = pooling or stated or "mean"
    own = (stated or "mean") if used == "mean_max" else used
    problems = [
        *_check_modules(folder, own, used_prefix, is_frozen=True),
        *_check_prompts(folder, used_prefix),
        *_check_reading(folder, tokens),
    ]
    if layers and "Dense" in names:
        problems.append(Problem("layers", ", ".join(map(str, layers)), "none: this model's Dense reads the last layer"))
    if used == "mean_max" and not layers:
        problems.append(Problem("pooling", "mean_max without layers", "layers: the numbers of hidden layers"))
    if problems:
        raise InputError(model, problems)
    normalise = not modules or bool(layers) or "Normalize" in names
    return Reading(used_prefix, used, tuple(layers), tuple(_dense(folder, modules)), normalise, bool(modules))


def statement_files(folder: Path) -> list[str]:
    """The files of a folder's modules that lie beside the transformer's own, as paths within it."""
    try:
        modules = [(_name(kind), path) for kind, path in _modules(folder) if path]
    except InputError:
        return []  # whoever reads the folder says what is wrong
    weights = [f"{path}/model.safetensors" for name, path in modules if name == "Dense"]
    return [*(f"{path}/config.json" for _, path in modules), *weights]


def copy_statements(source: Path, target: Path) -> None:
    """Copies what a folder says beside its weights to a model that was made of it."""
    for name in (MODULES, PROMPTS, READING, *statement_files(source)):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def check_sentence_model(model: str, folder: Path, pooling: Pooling, prefix: str) -> None:
    """Sees that nothing that the folder of a model to be trained asks for would be left out.

    Args:
        model: its name, for messages.
        folder: its files.
        pooling: how the config pools its states.
        prefix: what the config puts before every text.

    Raises:
        InputError: with every problem found.
    """
    problems = [
        *_check_modules(folder, pooling, prefix),
        *_check_prompts(folder, prefix),
        *_check_reading(folder, None),
    ]
    if problems:
        raise InputError(model, problems)


def _name(kind: str) -> str:
    """A module's name: that of the library's class, or in full if it is of another package."""
    return kind.rpartition(".")[2] if kind.startswith(_PACKAGE) else kind


def _check_modules(folder: Path, pooling: Pooling, prefix: str, is_frozen: bool = False) -> Iterator[Problem]:
    seen: list[str] = []
    for kind, path in _modules(folder):
        name, where = _name(kind), f"{MODULES}: {path or kind}"
        if name in seen and not (is_frozen and name == "Dense"):
            yield Problem(where, f"a second module {name}", "one of each")
        elif name == "Pooling":
            yield from _check_pooling(folder, f"{path}/config.json", pooling, prefix, is_frozen)
        elif name == "Transformer":
            if path:
                yield Problem(where, f"the transformer in {path}", "its files in the folder itself")
            if seen:
                yield Problem(where, f"a Transformer after {', '.join(seen)}", "the Transformer first")
        elif is_frozen and name in ("Dense", "Normalize") and "Pooling" not in seen:
            yield Problem(where, f"a {name} before the Pooling", "the Pooling first")
        elif is_frozen and name == "Dense" and "Normalize" in seen:
            yield Problem(where, "a Dense after Normalize", "Normalize last: choose another model")
        elif is_frozen and name in ("Dense", "Normalize"):
            yield from _check_step(folder, name, path)
        elif name not in _HARMLESS:
            known = "Transformer, Pooling, Dense and Normalize" if is_frozen else "Transformer, Pooling and Normalize"
            yield Problem(where, f"a module {name}", f"{known} alone: choose another model")
        seen.append(name)
    if is_frozen and seen and "Pooling" not in seen:
        yield Problem(MODULES, "no Pooling", "a Transformer and a Pooling")


def _check_step(folder: Path, name: str, path: str) -> Iterator[Problem]:
    """What a Dense or a Normalize asks for that is not done."""
    where = f"{path}/config.json"
    config = _read(folder / where, where)
    if config is None and name == "Dense":
        yield Problem(where, "missing", "the file that says how wide this layer is")
    for key in ("module_input_name", "module_output_name"):
        if (config or {}).get(key) not in (None, "sentence_embedding"):
            yield Problem(f"{where}: {key}", repr((config or {})[key]), "sentence_embedding: choose another model")
    if name != "Dense" or config is None:
        return
    if config.get("use_residual"):
        yield Problem(f"{where}: use_residual", "true", "false: choose another model")
    if not isinstance(config.get("out_features"), int):
        yield Problem(f"{where}: out_features", repr(config.get("out_features")), "the number of its outputs")
    if _activation(config) not in get_args(Activation):
        expected = f"one of torch's {', '.join(get_args(Activation))}: choose another model"
        yield Problem(f"{where}: activation_function", repr(config.get("activation_function")), expected)
    if not (folder / path / "model.safetensors").is_file():
        yield Problem(f"{path}/model.safetensors", "missing", "the weights of this layer")


def _activation(config: Json) -> str:
    """The activation's class if it is one of torch's, which is Tanh where none is named."""
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    return name.rpartition(".")[2] if name.startswith("torch.nn.modules.") else ""


def _dense(folder: Path, modules: Sequence[tuple[str, str]]) -> Iterator[Dense]:
    """The Dense layers of modules that were checked."""
    for kind, path in modules:
        if _name(kind) == "Dense":
            config = _read(folder / path / "config.json", f"{path}/config.json") or {}
            width, activation = config["out_features"], _activation(config)
            yield Dense(path, cast(int, width), cast(Activation, activation))  # `_check_step` has seen both


def _stated_pooling(folder: Path, modules: Sequence[tuple[str, str]]) -> Pooling | None:
    """The pooling that a folder states, if it is one that there is."""
    for kind, path in modules:
        if _name(kind) == "Pooling":
            modes = _modes(_read(folder / path / "config.json", f"{path}/config.json") or {})
            return cast(Pooling, modes[0]) if len(modes) == 1 and modes[0] in get_args(Pooling) else None
    return None


def _check_pooling(
    folder: Path, path: str, pooling: Pooling, prefix: str, is_frozen: bool = False
) -> Iterator[Problem]:
    config = _read(folder / path, path)
    if config is None:
        yield Problem(path, "missing", "the file that says how this model is pooled")
        return
    modes = _modes(config)
    if modes != [pooling]:
        usable = modes in ([["mean"], ["cls"], ["max"], ["lasttoken"]] if is_frozen else [["mean"], ["cls"]])
        is_fixed = pooling == "lasttoken" and not is_frozen  # a decoder's
        cure = f"set pooling: {modes[0]} in the config" if usable and not is_fixed else "choose another model"
        expected = f"{pooling}, as the config says: {cure}" if usable or not is_frozen else f"{_POOLINGS}: {cure}"
        yield Problem(path, f"pooling by {' and '.join(modes) or 'nothing'}", expected)
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
    kind, name = config.get("model_type"), config.get("default_prompt_name")
    if kind not in (None, "SentenceTransformer"):
        yield Problem(f"{PROMPTS}: model_type", repr(kind), "SentenceTransformer: choose another model")
    if name is None:
        return
    prompt = _default_prompt(folder)
    if prompt is None:
        yield Problem(f"{PROMPTS}: default_prompt_name", repr(name), "the name of one of its prompts")
    elif prompt != prefix:
        found = f"{name!r}, which is {prompt!r}, where the config's prefix is {prefix!r}"
        cure = f"the same: set prefix: {json.dumps(prompt)} in the config"
        yield Problem(f"{PROMPTS}: default_prompt_name", found, cure)


def _default_prompt(folder: Path) -> str | None:
    """The prompt that a folder puts before every text; None where it names none, or one that is not there."""
    config = _read(folder / PROMPTS, PROMPTS) or {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(str(name)) if isinstance(prompts, dict) and name is not None else None
    return prompt if isinstance(prompt, str) else None


def _check_reading(folder: Path, frozen_tokens: int | None) -> Iterator[Problem]:
    config = _read(folder / READING, READING) or {}
    if config.get("do_lower_case") and not _lowers(folder / "tokenizer.json"):
        expected = "false, or a tokenizer.json that does so itself: choose another model"
        yield Problem(f"{READING}: do_lower_case", "true", expected)
    for key, usual in _TRANSFORMER.items():
        if frozen_tokens is not None and config.get(key) not in (None, {}, usual):
            yield Problem(f"{READING}: {key}", repr(config[key]), f"{usual}: choose another model")
    where, limit = f"{READING}: max_seq_length", config.get("max_seq_length")
    if limit is None and _modules(folder):  # then the library goes by its tokenizer
        where = f"{TOKENIZER}: model_max_length"
        limit = (_read(folder / TOKENIZER, TOKENIZER) or {}).get("model_max_length")
    if isinstance(limit, int) and frozen_tokens is not None and frozen_tokens > limit:
        found = f"{limit}, where window.max_tokens is {frozen_tokens}"
        yield Problem(where, found, f"no more than that: set window.max_tokens: {limit}")


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
