#!/usr/bin/env python3
"""Turns soak.csv, outliers.csv and silence.csv, beside it, into tables of docs/reliability.md and plots.

Each table goes between its two markers in the document:

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

blue, red, grey = "#0072b2", "#d55e00", "#767676"

WIDTH, PANEL, LEFT, TOP, STEP = 880, 120, 70, 40, 175
# Rows of the table.
ROWS = 10


def samples(name):
    with (HERE / f"{name}.csv").open() as file:
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
    most = max(value(row) for _, value in lines for row in rows)
    # A grid of whole tenths for what is at most 1.
    top = 1.2 if 0 < most <= 1 else most * 1.1 or 1.0
    out = [text(LEFT, y - 10, title, 13, "start", 'font-weight="bold"')]
    for part in range(5):
        at = y + PANEL * (1 - part / 4)
        out.append(f'<path d="M{LEFT} {at:.1f}h{width}" stroke="#ddd"/>')
        digits = 0 if top >= 4 else 1
        out.append(text(LEFT - 6, at + 4, f"{top * part / 4:,.{digits}f}", 11, "end"))
    unit, length, step = ("min", 60, 2) if end > 120 else ("s", 1, 5)
    for time in range(0, int(end // length) + 1, step):
        out.append(text(LEFT + width * time * length / end, y + PANEL + 16, f"{time} {unit}", 11))
    for colour, value in lines:
        points = " ".join(
            f'{LEFT + width * row["seconds"] / end:.1f},{y + PANEL * (1 - value(row) / top):.1f}'
            for row in rows
        )
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return out


def soak(rows):
    return [
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


def outliers(rows):
    return [
        (
            "calls that failed, in %",
            [(red, lambda row: 100 * row["failed"] / max(row["calls"], 1))],
        ),
        (
            "backends that are ejected (blue), outlier detection is in force (grey)",
            [(grey, lambda row: row["detection"]), (blue, lambda row: row["ejected"])],
        ),
    ]


def silence(rows):
    return [
        (
            "calls a second that are late, without the option (grey) and with it (red)",
            [
                (grey, lambda row: row["late_off"] / row["length"]),
                (red, lambda row: row["late_on"] / row["length"]),
            ],
        ),
        (
            "backends that are paused (grey), and silent (blue)",
            [(grey, lambda row: row["paused"]), (blue, lambda row: row["silent"])],
        ),
    ]


def plot(rows, panels):
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


def outliers_table(rows):
    """The share of failures in each part, and in the time in which the backend was ejected."""
    start = next(row["seconds"] for row in rows if row["detection"])
    parts = [
        ("without detection", [row for row in rows if not row["detection"]]),
        ("the first 2 intervals", [row for row in rows if start <= row["seconds"] < start + 2]),
        ("after them", [row for row in rows if row["seconds"] >= start + 2]),
    ]
    lines = [["", "calls", "failed", "share"], ["---"] * 4]
    for name, part in parts:
        calls, failed = (sum(row[key] for row in part) for key in ("calls", "failed"))
        lines.append([name, f"{calls:,.0f}", f"{failed:,.0f}", f"{100 * failed / calls:.2f} %"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def silence_table(_):
    """The figures of both channels, which are in a file of their own."""
    head = [
        "`silence`", "calls", "late", "p50", "p99", "p99.9", "avoided after, median", "at most",
        "by mistake",
    ]
    lines = [head, ["---"] * len(head)]
    with (HERE / "silence.summary.csv").open() as file:
        for row in csv.DictReader(file):
            is_on = row["silence_ms"] != "0"
            times = [f'{float(row[key]):,.1f} ms' for key in ("p50_ms", "p99_ms", "p999_ms")]
            avoided = [row["avoided_median_ms"] + " ms", row["avoided_max_ms"] + " ms"]
            lines.append(
                [
                    f'{row["silence_ms"]} ms' if is_on else "off",
                    f'{int(row["calls"]):,}',
                    f'{int(row["late"]):,}',
                    *times,
                    *(avoided if is_on else ["–", "–"]),
                    row["mistakes"] if is_on else "–",
                ]
            )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    document = DOCUMENT.read_text()
    for name, made, panels in (
        ("soak", table, soak),
        ("outliers", outliers_table, outliers),
        ("silence", silence_table, silence),
    ):
        rows = samples(name)
        marked = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        made = made(rows)
        document = re.sub(marked, lambda m: f"{m[1]}{made}\n{m[2]}", document, flags=re.DOTALL)
        (HERE / f"{name}.svg").write_text(plot(rows, panels(rows)))
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
