#!/usr/bin/env python3
"""Turns soak.csv, beside it, into the table of docs/reliability.md and a plot.

The table goes between its two markers in the document:

    <!-- table: soak -->
    ...
    <!-- end -->

Needs Python 3 and nothing else.
"""

import csv
import re
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "reliability.md"

WIDTH, PANEL, LEFT, TOP, STEP = 880, 120, 70, 40, 175
# Rows of the table.
ROWS = 10


def samples():
    with (HERE / "soak.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    last = 0.0
    for row in rows:
        row["length"], last = row["seconds"] - last, row["seconds"]
    return rows


def text(x, y, words, size=12, anchor="middle", extra=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="#333" {extra}>{words}</text>'
    )


def panel(rows, y, title, lines):
    """One panel; `lines` are pairs of a colour and the value of a row."""
    width, end = WIDTH - LEFT - 30, rows[-1]["seconds"]
    top = max(value(row) for _, value in lines for row in rows) * 1.1 or 1.0
    out = [text(LEFT, y - 10, title, 13, "start", 'font-weight="bold"')]
    for part in range(5):
        at = y + PANEL * (1 - part / 4)
        out.append(f'<path d="M{LEFT} {at:.1f}h{width}" stroke="#ddd"/>')
        out.append(text(LEFT - 6, at + 4, f"{top * part / 4:,.0f}", 11, "end"))
    for minute in range(0, int(end // 60) + 1, 2):
        out.append(text(LEFT + width * minute * 60 / end, y + PANEL + 16, f"{minute} min", 11))
    for colour, value in lines:
        points = " ".join(
            f'{LEFT + width * row["seconds"] / end:.1f},{y + PANEL * (1 - value(row) / top):.1f}'
            for row in rows
        )
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return out


def plot(rows):
    blue, red, grey = "#0072b2", "#d55e00", "#767676"
    panels = [
        (
            "calls a second (blue), and those that failed (red)",
            [
                (blue, lambda row: row["calls"] / row["length"]),
                (red, lambda row: row["failed"] / row["length"]),
            ],
        ),
        (
            "ms for a call that was answered: p50 (grey), p99 (blue)",
            [(grey, lambda row: row["p50_us"] / 1e3), (blue, lambda row: row["p99_us"] / 1e3)],
        ),
        ("resident memory, MiB", [(blue, lambda row: row["rss_kib"] / 1024)]),
        (
            "tasks (blue), READY backends (red)",
            [(blue, lambda row: row["tasks"]), (red, lambda row: row["ready"])],
        ),
    ]
    height = TOP + STEP * len(panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (title, lines) in enumerate(panels):
        out += panel(rows, TOP + STEP * place, title, lines)
    return "\n".join(out + ["</svg>", ""])


def table(rows):
    head = ["until", "calls", "failed", "p50 ms", "p99 ms, worst sample", "RSS MiB", "tasks"]
    lines = [head, ["---"] * len(head)]
    size = -(-len(rows) // ROWS)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        last = part[-1]
        lines.append(
            [
                f'{last["seconds"] / 60:.1f} min',
                f'{sum(row["calls"] for row in part):,.0f}',
                f'{sum(row["failed"] for row in part):,.0f}',
                f'{last["p50_us"] / 1e3:.1f}',
                f'{max(row["p99_us"] for row in part) / 1e3:,.0f}',
                f'{last["rss_kib"] / 1024:.1f}',
                f'{last["tasks"]:.0f}',
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    rows = samples()
    document = DOCUMENT.read_text()
    marked = r"(<!-- table: soak -->\n).*?(<!-- end -->)"
    made = table(rows)
    document = re.sub(marked, lambda m: f"{m[1]}{made}\n{m[2]}", document, flags=re.DOTALL)
    DOCUMENT.write_text(document)
    (HERE / "soak.svg").write_text(plot(rows))


if __name__ == "__main__":
    main()
