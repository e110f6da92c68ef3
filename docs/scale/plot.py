#!/usr/bin/env python3
"""Turns the CSVs beside it into the tables of docs/scale.md and into plots.

Each table goes between its two markers in the document:

    <!-- table: herd -->
    ...
    <!-- end -->

Needs Python 3 and nothing else.
"""

import csv
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "scale.md"
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from svg import nice_step, text  # noqa: E402

BLUE, RED, GREY, GREEN, AMBER = "#0072b2", "#d55e00", "#767676", "#009e73", "#e69f00"
WIDTH, LEFT, TOP, PANEL, STEP = 880, 70, 56, 150, 225


def rows(name):
    with (HERE / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def number(value, digits=None):
    value = float(value)
    if digits is None:
        digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def table(head, lines):
    lines = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def panel(out, y, title, label, lines, end):
    """One panel of lines: a colour, a name, and points."""
    width, top = WIDTH - LEFT - 30, max(v for _, _, points in lines for _, v in points) * 1.08
    out.append(text(LEFT, y - 28, title, 13, "start", "#111", 'font-weight="bold"'))
    x = LEFT
    for colour, name, _ in lines:
        out.append(f'<path d="M{x} {y - 14}h18" stroke="{colour}" stroke-width="3"/>')
        out.append(text(x + 23, y - 10, name, 11, "start"))
        x += 45 + 6.2 * len(name)
    step, line = nice_step(top), 0.0
    while line <= top:
        at = y + PANEL * (1 - line / top)
        out.append(f'<path d="M{LEFT} {at:.1f}h{width}" stroke="#ddd"/>')
        out.append(text(LEFT - 6, at + 4, f"{line:,g}", 11, "end"))
        line += step
    for part in range(0, 11):
        value = end * part / 10
        out.append(text(LEFT + width * part / 10, y + PANEL + 15, f"{value:g}", 11))
    out.append(text(LEFT + width / 2, y + PANEL + 30, label, 11))
    for colour, _, points in lines:
        path = " ".join(
            f"{LEFT + width * x / end:.1f},{y + PANEL * (1 - v / top):.1f}"
            for x, v in points
            if x <= end
        )
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')


def plot(name, panels):
    height = TOP + STEP * len(panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (title, label, lines, end) in enumerate(panels):
        panel(out, TOP + STEP * place, title, label, lines, end)
    (HERE / f"{name}.svg").write_text("\n".join(out + ["</svg>", ""]))


def series(case, column, end, start=0.0, step=0.1):
    """The values of a case at each step; those that are not there are 0."""
    found = {
        round(float(row["seconds"]), 1): float(row[column])
        for row in rows("herd-time")
        if row["case"] == case
    }
    points = []
    for at in range(round(start / step), round(end / step)):
        at = round(at * step, 1)
        points.append((at - start, found.get(at, 0.0)))
    return points


def connections():
    return table(
        ["clients", "backends", "subset", "mean", "min", "p50", "p99", "max", "without any"],
        [
            [
                number(row["clients"]),
                number(row["backends"]),
                row["subset"],
                *(number(row[name]) for name in ("mean", "min", "p50", "p99", "max", "unused")),
            ]
            for row in rows("connections")
        ],
    )


def herd():
    head = [
        "what happens to a backend",
        "connections",
        "dials in 10 ms",
        "in 1 s",
        "later, in 100 ms",
        "in 1 s",
        "longest wait for `accept`",
        "SYNs dropped",
        "dials for each connection",
        "all back after, p50",
        "max",
    ]
    lines = []
    for row in rows("herd"):
        if row["case"].startswith("calls"):
            continue
        lines.append(
            [
                row["case"],
                number(row["connections"]),
                number(row["attempts_10ms"]),
                number(row["attempts_1s"]),
                number(row["later_100ms"]),
                number(row["later_1s"]),
                number(row["accept_wait_ms"]) + " ms",
                number(row["overflows"]),
                number(row["attempts_each"], 1),
                number(row["back_p50_s"], 1) + " s",
                number(row["back_max_s"], 1) + " s",
            ]
        )
    return table(head, lines)


def calls():
    head = ["what happens", "calls in 100 ms, mean", "the most of one backend", "times the mean"]
    lines = []
    for row in rows("herd"):
        if row["case"].startswith("calls"):
            most, mean = float(row["calls_100ms"]), float(row["calls_mean_100ms"])
            case = row["case"].removeprefix("calls ")
            lines.append([case, number(mean), number(most), number(most / mean)])
    return table(head, lines)


def spread():
    head = [
        "policy",
        "clients",
        "calls of a backend, least",
        "p99",
        "most",
        "of a slow one",
        "time of a call, p50",
        "p99",
    ]
    lines = []
    for row in rows("spread"):
        shares = ("min_to_mean", "p99_to_mean", "max_to_mean", "slow_share")
        times = (number(row[name], 1) + " ms" for name in ("p50_ms", "p99_ms"))
        shares = (number(row[name], 2) for name in shares)
        lines.append([row["policy"], number(row["clients"]), *shares, *times])
    return table(head, lines)


def start():
    head = [
        "clients",
        "backends",
        "dials",
        "calls of the busiest, to the mean",
        "dials of a backend in 10 ms",
        "longest wait for `accept`",
        "all READY after",
    ]
    return table(
        head,
        [
            [
                number(row["clients"]),
                number(row["backends"]),
                row["case"],
                number(row["max_to_mean"]),
                number(row["attempts_10ms"]),
                number(row["accept_wait_ms"]) + " ms",
                number(row["all_ready_s"]) + " s",
            ]
            for row in rows("start")
        ],
    )


def knowledge():
    head = ["event", "calls stop or may go: p50", "p99", "max", "picker: p50", "p99", "max"]
    lines = []
    for row in rows("knowledge"):
        columns = ("gate_p50_ms", "gate_p99_ms", "gate_max_ms")
        columns += ("picker_p50_ms", "picker_p99_ms", "picker_max_ms")
        cells = []
        for column in columns:
            ms = float(row[column])
            cells.append(f"{ms:,.1f} ms" if ms < 1000 else f"{ms / 1000:,.1f} s")
        lines.append([row["event"], *cells])
    return table(head, lines)


NAMING = {
    "Fails": "lookups fail",
    "Late": "an answer takes 20 s",
    "NamesHalf": "names half of them",
    "NamesOthersThatRefuse": "names other addresses, which refuse",
    "NamesOthersThatAreSilent": "names other addresses, which are silent",
    "NamesNone": "names an empty set (a control plane)",
    "PushesHalf": "names half of them (a control plane)",
}


def naming():
    head = [
        "for 60 s the resolver",
        "calls failed",
        "clients without a backend",
        "dials of a backend in 1 s",
        "lookups in 10 ms",
        "all is as before after, p50",
        "max",
    ]
    return table(
        head,
        [
            [
                NAMING[row["case"]],
                f'{number(float(row["failed_share"]) * 100, 1)} %',
                number(row["lost_all"]),
                number(row["attempts_1s"]),
                number(row["lookups_10ms"]),
                number(row["whole_p50_s"], 1) + " s",
                number(row["whole_max_s"], 1) + " s",
            ]
            for row in rows("naming")
        ],
    )


TABLES = {
    "connections": connections,
    "herd": herd,
    "calls": calls,
    "spread": spread,
    "start": start,
    "knowledge": knowledge,
    "naming": naming,
}


def main():
    document = DOCUMENT.read_text()
    for name, made in TABLES.items():
        marked = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        document = re.sub(marked, lambda m: f"{m[1]}{made()}\n{m[2]}", document, flags=re.DOTALL)
    DOCUMENT.write_text(document)
    lookups = [(float(row["seconds"]), float(row["lookups_100ms"])) for row in rows("lookups")]
    plot(
        "herd",
        [
            (
                "Dials per second on a backend that is down for 30 s: 1,000 clients",
                "seconds since it went down",
                [
                    (GREY, "without jitter", series("no jitter 30 s", "attempts", 60, 0.3)),
                    (BLUE, "with the jitter of 20 %", series("a tenth 30 s", "attempts", 60, 0.3)),
                ],
                60,
            ),
            (
                "The same, with jitter alone; the first 300 ms are left out",
                "seconds since it went down",
                [
                    (BLUE, "a tenth of the backends", series("a tenth 30 s", "attempts", 60, 0.3)),
                    (AMBER, "all of them", series("all 30 s", "attempts", 60, 0.3)),
                    (
                        GREEN,
                        "10,000 clients with subsets of 20",
                        series("subsets a tenth 30 s", "attempts", 60, 0.3),
                    ),
                ],
                60,
            ),
            (
                "Watch RPCs per second on that backend",
                "seconds since it went down",
                [(RED, "a tenth of the backends", series("a tenth 30 s", "watches", 60))],
                60,
            ),
        ],
    )
    plot(
        "calls",
        [
            (
                "Calls per second on a backend: all of 100 are down for 30 s",
                "seconds since they went down",
                [
                    (BLUE, "all are up at once", series("calls all 30 s", "calls", 80)),
                    (RED, "up one after the other for 20 s", series("calls all 30 to 50 s", "calls", 80)),
                ],
                80,
            )
        ],
    )
    plot(
        "lookups",
        [
            (
                "Lookups of 1,000 clients in 100 ms: a twentieth of the backends restarts each 20 s",
                "seconds",
                [(BLUE, "lookups", lookups)],
                400,
            )
        ],
    )


if __name__ == "__main__":
    main()
