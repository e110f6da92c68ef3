#!/usr/bin/env python3
"""Turns the CSV files beside it into the tables and plots of docs/benchmarks.md.

Prints the tables, and puts each between its two markers in the document:

    <!-- table: NAME -->
    ...
    <!-- end -->

Needs Python 3 and nothing else.
"""

import csv
import re
import sys
from pathlib import Path
from statistics import median

sys.dont_write_bytecode = True
import more  # the files beside this one
import svg

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "benchmarks.md"
README = HERE.parent.parent / "README.md"

NAMES = {
    "ours": "this crate, 4 backends, `Watch`",
    "ours_deadline": "… with a deadline on each call",
    "ours_deadlines": "… with another deadline on each call",
    "balance_list": "tonic `balance_list`, 4 backends",
    "balance_list_deadline": "… with a deadline on each call",
    "tonic": "tonic `Channel`, 1 backend",
    "h2": "bare `h2`, 4 backends",
    "h2_deadline": "… with a deadline on each call, that nobody keeps",
    "ours_own": "this crate with metrics by `Prometheus`",
    "ours_otel": "… by `OtelMeter::new`",
    "ours_bound": "… by `OtelMeter::bound`",
    "ours_spans": "… with spans by `OtelTracer`, each call sampled",
    "ours_unsampled": "… no call sampled",
}

PEERS = {
    "ours": "this crate, `Watch`",
    "ours_tcache": "this crate, `Watch`, `tcache_count=127`",
    "ours_each": "this crate, a channel on each thread",
    "balance_list": "tonic `balance_list`",
    "tonic": "tonic `Channel`, 1 backend",
    "h2": "bare `h2`",
    "ginepro": "ginepro",
    "grpc-go": "grpc-go, `Watch`",
    "grpc-java": "grpc-java, `Watch`",
    "grpc-c++": "C++ gRPC, `Watch`",
}


def rows(name):
    path = HERE / f"{name}.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


class Run:
    """Rounds of the same server and runtime."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.concurrency = sorted({int(r["concurrency"]) for r in self.rounds})

    def values(self, channel, concurrency, column):
        return [
            float(r[column])
            for r in self.rounds
            if r["channel"] == channel and int(r["concurrency"]) == concurrency
        ]

    def median(self, channel, concurrency, column):
        return median(self.values(channel, concurrency, column))

    def ratio(self, channel, base, concurrency, column):
        return self.median(channel, concurrency, column) / self.median(base, concurrency, column)

    def table(self):
        head = ["channel", "concurrent", "calls/s", "CPU µs per call (min–max)"]
        head += ["CPU to `balance_list`", "CPU to `h2`", "calls/s to `balance_list`"]
        head += ["p50 µs", "p99 µs", "servers busy"]
        body = []
        for n in self.concurrency:
            for channel, title in NAMES.items():
                cpu = self.values(channel, n, "cpu_us")
                body.append(
                    [
                        title,
                        n,
                        f"{self.median(channel, n, 'calls_per_second'):,.0f}",
                        f"{median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f})",
                        f"{self.ratio(channel, 'balance_list', n, 'cpu_us'):.2f}",
                        f"{self.ratio(channel, 'h2', n, 'cpu_us'):.2f}",
                        f"{self.ratio(channel, 'balance_list', n, 'calls_per_second'):.2f}",
                        f"{self.median(channel, n, 'p50_us'):.0f}",
                        f"{self.median(channel, n, 'p99_us'):.0f}",
                        f"{self.median(channel, n, 'servers_percent'):.0f} %",
                    ]
                )
        return markdown(head, body)

    def clients(self):
        """Who was measured, and its title."""
        found = {row["channel"] for row in self.rounds}
        return [(channel, title) for channel, title in PEERS.items() if channel in found]

    def peers(self):
        head = ["client", "concurrent", "calls/s", "CPU µs per call (min–max)"]
        head += ["calls/s to ours", "CPU to ours", "p50 µs", "p99 µs", "servers busy"]
        body = []
        for n in self.concurrency:
            for channel, title in self.clients():
                cpu = self.values(channel, n, "cpu_us")
                body.append(
                    [
                        title,
                        n,
                        f"{self.median(channel, n, 'calls_per_second'):,.0f}",
                        f"{median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f})",
                        f"{self.ratio(channel, 'ours', n, 'calls_per_second'):.2f}",
                        f"{self.ratio(channel, 'ours', n, 'cpu_us'):.2f}",
                        f"{self.median(channel, n, 'p50_us'):.0f}",
                        f"{self.median(channel, n, 'p99_us'):.0f}",
                        f"{self.median(channel, n, 'servers_percent'):.0f} %",
                    ]
                )
        return markdown(head, body)


def versions(peers):
    found = {row["channel"]: row["version"] for row in peers}
    return markdown(["client", "version"], [[PEERS[c], found[c]] for c in PEERS if c in found])


def summary(beside):
    """The one table of the README: 64 callers."""
    head = ["client", "one thread, calls/s", "CPU µs per call", "2 threads, calls/s", "CPU µs per call"]
    body = []
    for channel, title in beside["multi"].clients():
        line = [title]
        for run in (beside["current"], beside["multi"]):
            if channel not in dict(run.clients()):
                line += ["", ""]
                continue
            calls = run.median(channel, 64, "calls_per_second")
            line += [f"{calls:,.0f}", f"{run.median(channel, 64, 'cpu_us'):.1f}"]
        body.append(line)
    return markdown(head, body)


def markdown(head, body):
    lines = [head, ["---"] * len(head)] + body
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine():
    return markdown(["", ""], [[row["what"], row["value"]] for row in rows("machine")])


def allocations():
    body = [[NAMES[r["channel"]], r["allocations"], r["bytes"]] for r in rows("allocations")]
    return markdown(["channel", "allocations per call", "bytes per call"], body)


def verdict(value, must, more_is_better=False):
    """A measured value, in bold if it misses what it must be."""
    missed = value < must if more_is_better else value > must
    return f"**{value:.2f}**" if missed else f"{value:.2f}"


def budget(current, multi):
    body = []

    def row(what, must, aim, values, more_is_better=False):
        sign = "≥" if more_is_better else "≤"
        bounds = " / ".join(f"{bound:g}" for bound in must)
        measured = [verdict(v, m, more_is_better) for v, m in zip(values, must)]
        body.append([what, f"{sign} {bounds}", aim, " / ".join(measured)])

    def ratios(run, channel, base, column):
        return [run.ratio(channel, base, n, column) for n in (16, 64, 256)]

    cpu, calls = "cpu_us", "calls_per_second"
    for title, run, must, aim in [
        ("one thread", current, (0.70, 0.58, 0.58), "0.65 / 0.5 / 0.5"),
        ("2 workers", multi, (0.65, 0.60, 0.60), "0.55 / 0.5 / 0.5"),
    ]:
        values = ratios(run, "ours", "balance_list", cpu)
        row(f"CPU to `balance_list`, {title}, at 16 / 64 / 256", must, aim, values)
    for title, run in [("one thread", current), ("2 workers", multi)]:
        values = ratios(run, "ours", "h2", cpu)
        row(f"CPU to bare `h2`, {title}", (1.2,) * 3, "1.05", values)
    for title, run in [("one thread", current), ("2 workers", multi)]:
        values = ratios(run, "ours_deadline", "ours", cpu)
        row(f"CPU with a deadline to without, {title}", (1.1,) * 3, "", values)
    for title, run, must, aim in [
        ("one thread", current, (1.3, 1.7, 1.7), "2"),
        ("2 workers", multi, (1.5,) * 3, "2.5"),
    ]:
        values = ratios(run, "ours", "balance_list", calls)
        row(f"calls/s to `balance_list`, {title}", must, aim, values, True)
    p50 = current.ratio("ours", "tonic", 1, "p50_us")
    row("p50 of one caller, to tonic's `Channel`", (1.1,), "1", [p50])
    ours = [float(r["allocations"]) for r in rows("allocations") if r["channel"] == "ours"]
    row("allocations per call", (30,), "25", ours)
    more.More(rows).budget(row)
    return markdown(["what", "must", "aim", "measured"], body)


def flips():
    """How long a flip takes, by the part of the flips that take no longer."""
    parts = ["p50", "p90", "p99", "max"]
    panels = []
    for servers in ["lean", "tonic"]:
        found = [r for r in rows("flip") if r["servers"] == servers]
        for callers in sorted({int(r["callers"]) for r in found}):
            of = {r["side"]: r for r in found if int(r["callers"]) == callers}
            sides = {"ours": of["ours"], "theirs": of["hand_made"]}
            values = {side: [float(row[p]) for p in parts] for side, row in sides.items()}
            title = f"µs, {callers} in flight, {servers}"
            panels.append((title, "part of the flips", parts, values))
    return panels


def hedging(rounds):
    """How long calls take, and what they cost, with 1 slow backend of 4."""
    parts = {"p50": "p50_ms", "p90": "p90_ms", "p99": "p99_ms", "p99.9": "p999_ms"}
    latency = {s: [rounds.median(c, side=s) for c in parts.values()] for s in svg.HEDGING}
    load = {s: rounds.values("attempts_per_call", side=s) for s in svg.HEDGING}
    return [
        ("ms until the answer", "part of the calls", list(parts), latency),
        ("attempts per call", "round", list(range(1, 1 + len(load["none"]))), load),
    ]


def scale():
    sides = {"ours": "ours", "theirs": "tonic_channels"}
    found = {side: [r for r in rows("scale") if r["side"] == name] for side, name in sides.items()}
    backends = [f"{int(r['backends']):,}" for r in found["ours"]]
    columns = {"ready_ms": "until all are READY, ms", "kib_each": "resident, KiB for each"}
    return [
        (title, "backends", backends, {s: [float(r[column]) for r in f] for s, f in found.items()})
        for column, title in columns.items()
    ]


def fill_in(path, tables):
    text = path.read_text()
    for name, table in tables.items():
        marked = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(marked, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)
    path.write_text(text)


def main():
    runs = {
        f"{server}-{runtime}": Run(rows(f"call-{server}-{runtime}"))
        for server in ("lean", "tonic")
        for runtime in ("current", "multi")
    }
    tables = {name: run.table() for name, run in runs.items()}
    tables["machine"] = machine()
    tables["allocations"] = allocations()
    peers = rows("peers")
    beside = {
        runtime: Run([row for row in peers if row["runtime"] == runtime])
        for runtime in ("current", "multi")
    }
    tables |= {f"peers-{runtime}": run.peers() for runtime, run in beside.items()}
    tables["peers-versions"] = versions(peers)
    tables["budget"] = budget(runs["lean-current"], runs["lean-multi"])
    tables |= {name: markdown(*table) for name, table in more.More(rows).tables().items()}
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    fill_in(DOCUMENT, tables)
    fill_in(README, {"clients": summary(beside)})
    (HERE / "call.svg").write_text(svg.plot(runs["lean-current"], runs["lean-multi"]))
    (HERE / "flip.svg").write_text(svg.lines(flips()))
    panels = hedging(more.Rounds(rows("hedging")))
    (HERE / "hedging.svg").write_text(svg.lines(panels, svg.HEDGING))
    (HERE / "scale.svg").write_text(svg.lines(scale()))
    (HERE / "peers.svg").write_text(svg.plot(beside["current"], beside["multi"], svg.PEERS))


if __name__ == "__main__":
    main()
