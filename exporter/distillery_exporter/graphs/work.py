"""How many multiply-adds a graph does for a text, by which its speed can be compared with the machine's products."""

from collections.abc import Mapping
from pathlib import Path

from distillery_exporter.graphs.bert_settings import BertSettings
from distillery_exporter.graphs.gemma_attention import CHUNKS
from distillery_exporter.graphs.gemma_settings import GemmaSettings
from distillery_exporter.graphs.settings import read_settings
from distillery_runtime.bench.figures import Work


def bert_work(config: Mapping[str, object], where: Path) -> Work:
    """The work of a graph of `bert`."""
    s = read_settings(BertSettings, config, where / "config.json")
    layer = 4 * s.hidden_size**2 + 2 * s.hidden_size * s.intermediate_size
    return Work(s.num_hidden_layers * layer, 2 * s.num_hidden_layers * s.hidden_size)


def gemma_work(config: Mapping[str, object], where: Path) -> Work:
    """The work of a graph of `gemma`: the last layer has only keys and values to make for every token."""
    s = read_settings(GemmaSettings, config, where / "config.json")
    asking, asked = s.num_attention_heads * s.head_dim, 2 * s.num_key_value_heads * s.head_dim
    layer = s.hidden_size * (2 * asking + asked + 3 * s.intermediate_size)
    whole_layers = s.num_hidden_layers - 1
    seen = (CHUNKS + 1) / (2 * CHUNKS)  # of all pairs, by queries in causal chunks
    return Work(whole_layers * layer + s.hidden_size * asked, 2 * whole_layers * asking * seen)
