"""Distils a sentence encoder into a small static token table: `python -m distillery_trainer.neural.distil_table`.

The vocabulary is the encoder's Unigram pieces and whole words, most frequent in a corpus first. Each entry is encoded
by itself, as in Model2Vec (https://github.com/MinishLab/model2vec); then the rows are trained so that their mean over
a passage comes close to the encoder's embedding of the passage, as in Tokenlearn
(https://github.com/MinishLab/tokenlearn), both in the space of the passages' leading principal components. The table
is kept as int8 with one scale a row.
"""

import argparse
import copy
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from transformers import AutoModel, PreTrainedModel

from distillery_runtime.articles.article import parse_article
from distillery_runtime.articles.jsonl import BadLine, read_again
from distillery_runtime.cli.command import Parser, run_command
from distillery_runtime.cli.same_file import refuse_replaced
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.tokens.window import token_batches
from distillery_trainer.models.static_embedder import TABLE_FILES, save_table

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MIN_WORD_COUNT = 6
MAX_ENTRY_CHARS = 24
MAX_TOKENS = 128
EPOCHS = 12
BATCH_PASSAGES = 256
LEARNING_RATE = 0.01

Vocabulary = list[tuple[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and writes `table.safetensors` and `tokenizer.json`."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="folder of an encoder with a Unigram tokenizer")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="JSON lines with title and text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--entries", type=int, default=34_000, help="vocabulary size (default: 34000)")
    parser.add_argument("--passages", type=int, default=40_000, help="passages to learn from (default: 40000)")
    parser.add_argument("--dimensions", type=int, default=128, help="width of a row (default: 128)")
    parser.set_defaults(run=_distil)
    return run_command(parser, arguments, "interrupted; nothing was written")


def _distil(options: argparse.Namespace) -> int:
    source = options.encoder / "tokenizer.json"
    refuse_replaced(options.out, [*options.corpus, source], (*TABLE_FILES, "tokenizer.json"))
    full = Tokenizer.from_file(str(source))
    config = json.loads(source.read_text(encoding="utf-8"))
    texts = list(read_texts(options.corpus))
    passages = cut_passages(texts, options.passages)
    vocabulary = choose_entries(full, config["model"]["vocab"], texts, options.entries)
    cut = json.dumps(cut_tokenizer(config, vocabulary), ensure_ascii=False, separators=(",", ":"))
    model = AutoModel.from_pretrained(options.encoder, dtype=torch.float32).eval()
    known = full.get_vocab()
    vectors = embed(model, [entry_ids(full, known, entry) for entry, _ in vocabulary])
    targets = embed(model, [list(e.ids)[:MAX_TOKENS] for e in full.encode_batch_fast(passages)])
    cut_tokens = [list(e.ids) for e in Tokenizer.from_str(cut).encode_batch_fast(passages)]
    options.out.mkdir(parents=True, exist_ok=True)
    save_table(train_rows(vectors, targets, cut_tokens, options.dimensions), options.out)
    (options.out / "tokenizer.json").write_text(cut, encoding="utf-8")
    size = sum((options.out / name).stat().st_size for name in TABLE_FILES)
    print(f"{len(vocabulary)} entries, {size:,} bytes, {len(texts)} texts")
    return 0


def read_texts(files: Sequence[Path]) -> Iterator[str]:
    """The titles and texts of JSON lines."""
    for file in files:
        for line in read_again(file):
            if isinstance(line, BadLine):
                raise InputError("--corpus", [Problem(str(file), line.reason, "a JSON object with title and text")])
            article = parse_article(line)
            yield from (article.title, article.content)


def choose_entries(
    tokenizer: Tokenizer, pieces: Sequence[tuple[str, float]], texts: Sequence[str], count: int
) -> Vocabulary:
    """The specials, every single character, then pieces and whole words by their frequency, with log-probabilities."""
    words = Counter(
        word
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    )
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    used = Counter(i for encoding in encodings for i in encoding.ids)
    known = {str(piece): float(score) for piece, score in pieces}
    scores = {piece: score for piece, score in list(known.items())[len(SPECIALS) :] if _is_character(piece)}
    ranked = Counter({pieces[i][0]: n for i, n in used.items() if i >= len(SPECIALS)})
    for word, n in words.items():
        if n >= MIN_WORD_COUNT and word not in known and len(word) <= MAX_ENTRY_CHARS and word[1:].isalpha():
            ranked[word] = n
    total = sum(words.values())
    for entry, n in ranked.most_common():
        if len(scores) >= count - len(SPECIALS):
            break
        scores.setdefault(entry, known.get(entry, float(np.log(n / total))))
    return [*((special, 0.0) for special in SPECIALS), *sorted(scores.items(), key=lambda item: (-item[1], item[0]))]


def _is_character(piece: str) -> bool:
    """Whether a piece is an ASCII character or a letter, with or without the mark of a word's beginning."""
    return (len(piece) == 1 and piece.isascii()) or (len(piece.lstrip("▁")) <= 1 and piece.lower() != piece.upper())


def cut_passages(texts: Sequence[str], count: int) -> list[str]:
    """Passages of 8 to 48 words, drawn over the texts with a fixed seed."""
    generator = np.random.default_rng(0)
    passages = []
    for text in texts:
        words = text.split()
        start = 0
        while start < len(words):
            length = int(generator.integers(8, 49))
            passages.append(" ".join(words[start : start + length]))
            start += length
    order = generator.permutation(len(passages))[:count]
    return [passages[i] for i in order]


def entry_ids(tokenizer: Tokenizer, known: Mapping[str, int], entry: str) -> list[int]:
    """The encoder's ids for one vocabulary entry, special tokens included."""
    if entry in known:
        return [0, known[entry], 2]
    return list(tokenizer.encode(entry.lstrip("▁")).ids)


def embed(model: PreTrainedModel, rows: Sequence[list[int]], batch_tokens: int = 4096) -> NDArray[np.float32]:
    """The encoder's mean-pooled states, brought to unit length: (N, H) float32, in order."""
    out = np.zeros((len(rows), int(model.config.hidden_size)), np.float32)
    done = 0
    with torch.inference_mode():
        for batch in token_batches([len(row) for row in rows], batch_tokens):
            longest = max(len(rows[i]) for i in batch)
            ids = torch.tensor([rows[i] + [1] * (longest - len(rows[i])) for i in batch])
            mask = torch.tensor([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in batch])
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
            out[batch] = torch.nn.functional.normalize(states.sum(1), dim=1).numpy()
            done += len(batch)
            print(f"\r{done} of {len(rows)} embedded", end="", flush=True)
    print()
    return out


def train_rows(
    vectors: NDArray[np.float32], targets: NDArray[np.float32], tokens: Sequence[list[int]], dimensions: int
) -> NDArray[np.float32]:
    """Rows (V, dimensions) whose mean over a passage's tokens approximates the passage's embedding.

    Args:
        vectors: (V, H) each entry's own embedding, the rows' start. targets: (P, H) the passages' embeddings.
        tokens: each passage's ids in the table's vocabulary.
    """
    torch.manual_seed(0)
    pca = PCA(n_components=dimensions, svd_solver="full").fit(targets)
    width = np.sqrt(pca.explained_variance_.mean())
    start = torch.from_numpy((pca.transform(vectors) / width).astype(np.float32))
    start[: len(SPECIALS)] = 0
    goal = torch.from_numpy((pca.transform(targets) / width).astype(np.float32))
    bag = torch.nn.EmbeddingBag.from_pretrained(start.clone(), freeze=False, mode="mean")
    optimiser = torch.optim.Adam(bag.parameters(), lr=LEARNING_RATE)
    for epoch in range(EPOCHS):
        total = 0.0
        for places in torch.split(torch.randperm(len(tokens)), BATCH_PASSAGES):
            rows = [tokens[i] or [3] for i in places.tolist()]
            flat = torch.tensor([i for row in rows for i in row])
            offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])[:-1]])
            loss = torch.nn.functional.mse_loss(bag(flat, offsets), goal[places])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss) * len(rows)
        print(f"epoch {epoch + 1}: loss {total / len(tokens):.4f}")
    trained: NDArray[np.float32] = bag.weight.detach().numpy().copy()
    trained[: len(SPECIALS)] = 0
    return trained


def cut_tokenizer(config: Mapping[str, object], vocabulary: Vocabulary) -> dict[str, object]:
    """The tokenizer's JSON with another vocabulary, and no special tokens around a text."""
    cut = copy.deepcopy(dict(config))
    model, added = cut["model"], cut["added_tokens"]
    if not isinstance(model, dict) or model.get("type") != "Unigram" or not isinstance(added, list):
        raise SystemExit("tokenizer.json: expected a Unigram model")
    model["vocab"] = [[entry, round(score, 4)] for entry, score in vocabulary]
    cut["added_tokens"] = [token for token in added if token["content"] in SPECIALS]
    cut.update(post_processor=None, truncation=None, padding=None)
    return cut


if __name__ == "__main__":
    sys.exit(main())
