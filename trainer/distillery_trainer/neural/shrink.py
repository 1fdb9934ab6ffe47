"""A smaller base model out of a larger encoder: some of its layers, and the pieces of its vocabulary that texts use.

A multilingual encoder's weights are mostly the embeddings of pieces that a filter's articles never show (Abdaoui et al.
2020, arXiv 2010.05609), and once it is fine-tuned its lowest layers do most of its work (Sajjad et al. 2020, arXiv
2004.03844). What is left is a base model like any other, to be fine-tuned and distilled.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_trainer.models.base_model import identity
from distillery_trainer.models.model_card import CARD_NAME, Stated, stated, text_of
from distillery_trainer.models.sentence_models import copy_statements
from distillery_trainer.neural.tensor_files import read_tensors, write_tensors
from distillery_trainer.store.files import write_json

BATCH_TEXTS = 256
WORDS = "word_embeddings.weight"

_LAYER = re.compile(r"((?:^|\.)layers?\.)(\d+)(?=\.)")

Json = dict[str, Any]  # Any: config.json and tokenizer.json are of many shapes


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was kept. `kept_share`: of the texts' tokens, those whose piece is still there."""

    layers: tuple[int, ...]
    layers_before: int
    pieces: int
    pieces_before: int
    texts: int
    kept_share: float


def shrink(base: Path, texts: Iterable[str], layers: int, pieces: int, out: Path) -> Shrunk:
    """Writes a base model with fewer layers and pieces: config, tokenizer, weights and a short card.

    The layers are the lowest ones. The pieces are those that the texts use most, and beside them all special tokens and
    each single character that the texts have, so that rarer words fall into shorter pieces and not into the unknown.
    Ids keep their order.

    Args:
        base: an encoder's folder, its tokenizer of the kind Unigram or WordPiece.
        texts: as the model will read them, in the same proportions of languages.
        layers: how many layers to keep, at least 1.
        pieces: how many pieces to keep at most, beside those that are always kept.
        out: the new model's folder; `shrink.json` there says where it comes from.

    Raises:
        InputError: the model or tokenizer is of another kind, or has fewer layers.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = _pieces(tokenizer, base)
    chosen = _lowest(config.get("num_hidden_layers"), layers, base)
    counts, characters, read = _count(base / "tokenizer.json", texts)
    ids = _keep(tokenizer, vocabulary, counts, characters, pieces)
    new_ids = {old: new for new, old in enumerate(ids)}
    out.mkdir(parents=True, exist_ok=True)
    _write_weights(base, chosen, ids, out)
    write_text(out / "tokenizer.json", json.dumps(_smaller(tokenizer, ids, new_ids), ensure_ascii=False))
    write_json(out / "config.json", _configured(config, len(chosen), new_ids))
    copy_statements(base, out)
    kept = sum(count for old, count in counts.items() if old in new_ids) / max(1, sum(counts.values()))
    report = Shrunk(tuple(chosen), int(config["num_hidden_layers"]), len(ids), len(vocabulary), read, round(kept, 6))
    write_text(
        out / CARD_NAME, text_of(_origin(base), f"A smaller {identity(base)['name']}, made by `trainer shrink`.")
    )
    write_json(out / "shrink.json", {"schema_version": 1, "base": identity(base), **asdict(report)})
    return report


def _origin(base: Path) -> Stated:
    """The base's licence, and where it comes from: its own Hub id, else what it derives from."""
    found, known = stated(base), identity(base)
    return replace(found, base_models=(str(known["name"]),)) if known["commit"] else found


def _pieces(tokenizer: Json, base: Path) -> list[str]:
    """The tokenizer's pieces by id."""
    model = tokenizer["model"]
    vocabulary = model.get("vocab")
    if "merges" in model or not vocabulary:
        problem = Problem("model.type", repr(model.get("type")), "Unigram or WordPiece; merges need all their parts")
        raise InputError(str(base / "tokenizer.json"), [problem])
    if isinstance(vocabulary, list):
        return [piece for piece, _ in vocabulary]
    by_id = {index: piece for piece, index in vocabulary.items()}
    return [by_id[index] for index in range(len(by_id))]


def _lowest(available: object, wanted: int, base: Path) -> list[int]:
    if not isinstance(available, int) or not 1 <= wanted <= available:
        problem = Problem("layers", str(wanted), f"1 to num_hidden_layers, {available}")
        raise InputError(str(base / "config.json"), [problem])
    return list(range(wanted))


def _count(path: Path, texts: Iterable[str]) -> tuple[Counter[int], set[str], int]:
    """How often the texts use each id, the characters that they have, and how many texts there are."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    counts, characters, read = Counter[int](), set[str](), 0
    for batch in _batches(texts):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            counts.update(encoding.ids)
        characters.update(*batch)
        read += len(batch)
    return counts, characters, read


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH_TEXTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _keep(
    tokenizer: Json, vocabulary: Sequence[str], counts: Mapping[int, int], characters: set[str], pieces: int
) -> list[int]:
    """The ids to keep, in their order."""
    model = tokenizer["model"]
    unknown = model.get("unk_id"), model.get("unk_token")
    characters = characters | {"▁"}
    always = {token["id"] for token in tokenizer["added_tokens"]}
    for index, piece in enumerate(vocabulary):
        if index == unknown[0] or piece == unknown[1] or piece.removeprefix("##") in characters:
            always.add(index)
    used = sorted((index for index in counts if index not in always), key=lambda index: (-counts[index], index))
    return sorted(always | set(used[:pieces]))


def _smaller(tokenizer: Json, ids: Sequence[int], new_ids: Mapping[int, int]) -> Json:
    """The tokenizer with these ids alone, which it renumbers."""
    model = dict(tokenizer["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [model["vocab"][old] for old in ids]
        model["unk_id"] = None if model.get("unk_id") is None else new_ids[model["unk_id"]]
    else:
        model["vocab"] = {piece: new_ids[old] for piece, old in model["vocab"].items() if old in new_ids}
    changed = {**tokenizer, "model": model, "truncation": None, "padding": None}
    changed["added_tokens"] = [{**token, "id": new_ids[token["id"]]} for token in tokenizer["added_tokens"]]
    changed["post_processor"] = _renumbered(tokenizer["post_processor"], new_ids)
    return changed


def _renumbered(processor: object, new_ids: Mapping[int, int]) -> object:
    """A post-processor whose special tokens have their new ids: `ids: [2]` in a template, `["</s>", 2]` elsewhere."""
    if isinstance(processor, list):
        if len(processor) == 2 and isinstance(processor[0], str) and isinstance(processor[1], int):
            return [processor[0], new_ids[processor[1]]]
        return [_renumbered(item, new_ids) for item in processor]
    if not isinstance(processor, dict):
        return processor
    return {
        key: [new_ids[old] for old in value] if key == "ids" else _renumbered(value, new_ids)
        for key, value in processor.items()
    }


def _configured(config: Json, layers: int, new_ids: Mapping[int, int]) -> Json:
    moved = {
        key: new_ids[value] for key, value in config.items() if key.endswith("_token_id") and isinstance(value, int)
    }
    types = config.get("layer_types")
    kinds = {"layer_types": types[:layers]} if isinstance(types, list) else {}
    return {**config, **moved, **kinds, "num_hidden_layers": layers, "vocab_size": len(new_ids)}


def _write_weights(base: Path, layers: Sequence[int], ids: Sequence[int], out: Path) -> None:
    kept = {old: new for new, old in enumerate(layers)}
    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        for name, tensor in read_tensors(path).items():
            found = _LAYER.search(name)
            if found and int(found[2]) not in kept:
                continue
            renamed = _LAYER.sub(lambda match: f"{match[1]}{kept[int(match[2])]}", name) if found else name
            tensors[renamed] = tensor[list(ids)] if name.endswith(WORDS) else tensor
    if not any(name.endswith(WORDS) for name in tensors):
        raise InputError(str(base), [Problem(WORDS, "no such tensor", "an encoder like BERT, RoBERTa or XLM-R")])
    write_tensors(out / "model.safetensors", tensors, {"format": "pt"})
