"""Scripts that a tokenizer's vocabulary covers: it reads nearly all their letters, each by itself.

Scripts are blocks of common letters. A vocabulary that lacks a letter reads no word that holds it: one with a few
letters of a script (from names and formulas) does not cover it.
"""

from pathlib import Path

from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow

COVERED = 0.9  # of a script's letters
# Letters that words of today are spelled in, first to last of each run; of Chinese and Korean, common syllables.
SCRIPTS = {
    "Latin": "az AZ \u00df\u00f6 \u00f8\u00ff",
    "Greek": "\u03b1\u03c9 \u0391\u03a1",
    "Cyrillic": "\u0430\u044f \u0410\u042f",
    "Armenian": "\u0561\u0586",
    "Hebrew": "\u05d0\u05ea",
    "Arabic": "\u0627\u063a \u0641\u064a",
    "Devanagari": "\u0905\u0914 \u0915\u0939",
    "Bengali": "\u0985\u098c \u0995\u09a8",
    "Tamil": "\u0b85\u0b8a \u0bae\u0bb5",
    "Telugu": "\u0c05\u0c0b \u0c15\u0c28",
    "Thai": "\u0e01\u0e2e",
    "Lao": "\u0e81\u0e82 \u0e94\u0e97 \u0e99\u0e9f",
    "Georgian": "\u10d0\u10f0",
    "Ethiopic": "\u1208\u120e \u1218\u121e \u1228\u122e \u1260\u1266 \u1270\u1276 \u1290\u1296",
    "Khmer": "\u1780\u1799",
    "Kana": "\u3042\u308d \u30a2\u30ed",
}
# Common characters of the two scripts that have thousands.
SAMPLES = {
    "Chinese": (
        "\u7684\u4e00\u662f\u4e0d\u4e86\u5728\u4eba\u6709\u6211\u4ed6\u8fd9\u4e2a\u4eec\u4e2d\u6765\u4e0a\u5927\u4e3a"
        "\u548c\u56fd\u5730\u5230\u4ee5\u8bf4\u65f6\u8981\u5c31\u51fa\u4f1a\u53ef\u4e5f\u4f60\u5bf9\u751f\u80fd\u800c"
    ),
    "Korean": (
        "\uc774\ub2e4\uc758\ub294\uc5d0\uac00\uc744\ud558\uace0\ud55c\uc9c0\uc0ac\ub3c4\uae30\ub85c\ub97c\uc740\uc778"
        "\ub77c\uc11c\ub9ac\uc790\ub098\ud574\uc2dc\uc5b4\uacfc\ub300\uc788\uadf8\uc544\uc77c\uc218\uc81c\uc815\uc2a4"
    ),
}


def covered_scripts(tokenizer_json: Path) -> list[str]:
    """The scripts that a tokenizer reads, in the order of `SCRIPTS` and `SAMPLES`."""
    window = TokenWindow(tokenizer_json, Window(tail_share=0.0))
    letters = {name: "".join(map(_run, runs.split())) for name, runs in SCRIPTS.items()} | SAMPLES
    return [name for name, known in letters.items() if _share_read(window, known) >= COVERED]


def _run(ends: str) -> str:
    return "".join(map(chr, range(ord(ends[0]), ord(ends[1]) + 1)))


def _share_read(window: TokenWindow, letters: str) -> float:
    rows = window.encode([letter for letter in letters if letter.isalpha()])
    return sum(row.unread == 0 for row in rows) / len(rows)
