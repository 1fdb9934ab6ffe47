"""Pieces of a Markdown page: tables, figures with their spread, and where a table's figures come from."""

from collections.abc import Mapping, Sequence

from benchmarks.render_results import Json

NOTHING = "–"
_GIB = 1 << 30

Cell = str | float | int | None


def figure(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, in plain notation unless it is tiny; a dash for None."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 2}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) < 1 else f"{float(f'{value:.{digits}g}'):.{_decimals(value, digits)}f}"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - len(str(int(abs(value)))))


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals."""
    return NOTHING if value is None else f"{value:.{decimals}f}"


def change(ratio: float) -> str:
    """A ratio as what it adds, in percent."""
    return f"{round(100 * (ratio - 1), 2) + 0.0:+.2f} %"


def spread(found: Json | None) -> str:
    """A median with its 10th and 90th percentile."""
    if found is None:
        return NOTHING
    return f"{figure(found['p50'])} ({figure(found['p10'])}–{figure(found['p90'])})"


def times(value: float | None) -> str:
    """A ratio, with two decimals."""
    return NOTHING if value is None else f"{value:.2f}x"


def percent(share: float | None, decimals: int = 0) -> str:
    """A share as a percentage."""
    return NOTHING if share is None else f"{100 * share:.{decimals}f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; columns that hold only numbers are aligned to the right."""
    cells = [[_shown(cell) for cell in row] for row in rows]
    right = [all(_is_number(row[column]) for row in cells) for column in range(len(header))]
    ruler = ["---:" if aligned else "---" for aligned in right]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(header), ruler, *cells]) + "\n"


def _shown(cell: Cell) -> str:
    text = figure(cell) if isinstance(cell, float) else NOTHING if cell is None else str(cell)
    return text.replace("|", "\\|").replace("\n", " ")


def _is_number(text: str) -> bool:
    return text == NOTHING or text.lstrip("-")[:1].isdigit()


def provenance(record: Json, *more: str, versions: Mapping[str, str] | None = None) -> str:
    """Where figures come from: the command, the machine, the threads, the versions, and what else is to be said."""
    found = dict(record["machine"]["versions"]) if isinstance(record.get("machine"), Mapping) else {}
    found |= versions or record.get("versions") or {}
    parts = [f"`{record['command']}`", machine(record.get("machine"))]
    if record.get("threads"):
        parts.append(f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}")
    parts += [", ".join(f"{name} {version}" for name, version in found.items()), *more]
    return "Measured by " + "; ".join(part for part in parts if part) + ".\n"


def machine(found: Json | str | None) -> str:
    """A machine in one line."""
    if found is None:
        return "a machine that is not recorded"
    if isinstance(found, str):
        return found
    processor = found["processor"]
    memory = f", {found['memory_bytes'] / _GIB:.0f} GiB" if found.get("memory_bytes") else ""
    gpu = f", {found['gpu']}" if found.get("gpu") else ""
    instructions = ", ".join(processor["instructions"])
    cores = f"{found['usable_cores']} of {found['logical_cpus']} logical CPUs"
    return f"{processor['name']} ({instructions}), {cores}{memory}{gpu}, {found['system']} {found['architecture']}"


def not_measured(command: str) -> str:
    """What a section says that has no result."""
    return f"Not measured. `{command}` measures it.\n"


def details(summary: str, body: str) -> str:
    """A long part that is folded away."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n</details>\n"
