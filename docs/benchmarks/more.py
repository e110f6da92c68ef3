"""The tables and the rows of the budget that are not about a unary call's cost."""

from statistics import median

SIDES = {
    "ours": "this crate, 4 backends, `Watch`",
    "balance_list": "tonic `balance_list`, 4 backends",
    "ours_one": "this crate, 1 backend, `Watch`",
    "tonic": "tonic `Channel`, 1 backend",
}
SHAPES = {
    "unary_1_mib": "1 MiB there and back",
    "server_stream": "server stream",
    "client_stream": "client stream",
    "bidi_stream": "bidirectional stream",
}
STATES = {
    "calm": "calls",
    "flips": "calls, 1,000 flips/s",
    "flips_alone": "1,000 flips/s, no calls",
    "nothing": "neither",
}
HEDGING = {
    "none": "no policy",
    "retry": "retries on UNAVAILABLE, up to 3 attempts",
    "hedge_p95": "a hedge after 35 ms, the p95",
    "hedge_p50": "a hedge after 12 ms, the p50",
}
WORKERS = {"1": "one thread", "2": "2 workers"}
ALLOCATORS = {
    "tcache": "glibc, `tcache_count=127`",
    "jemalloc": "jemalloc",
    "mimalloc": "mimalloc",
}


class Rounds:
    """Rows of CSV files, one for each round, told apart by what they are about."""

    def __init__(self, *files):
        self.rows = [row for file in files for row in file]

    def values(self, column, **about):
        found = [r for r in self.rows if all(r[k] == v for k, v in about.items())]
        return [float(r[column]) for r in found if r[column]]

    def median(self, column, **about):
        values = self.values(column, **about)
        return median(values) if values else float("nan")

    def ratio(self, column, of, to):
        return self.median(column, **of) / self.median(column, **to)

    def of_rounds(self, column, of, to):
        """The median of what each round's turns come to, which are next to each other."""
        pairs = zip(self.values(column, **of), self.values(column, **to))
        return median([mine / theirs for mine, theirs in pairs] or [float("nan")])

    def spread(self, column, **about):
        values = self.values(column, **about)
        if not values:
            return ""
        return f"{median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


class More:
    def __init__(self, rows):
        self.p99 = Rounds(rows("p99-current"), rows("p99-multi"))
        self.streams = Rounds(rows("streams-1"), rows("streams-2"))
        self.unrest = Rounds(rows("unrest-1"), rows("unrest-2"))
        self.hedging = Rounds(rows("hedging"))
        self.memory = rows("memory")
        self.allocators = Rounds(rows("allocators"))
        self.pick, self.flip, self.scale = rows("pick"), rows("flip"), rows("scale")
        self.instructions = {r["channel"]: float(r["instructions"]) for r in rows("instructions")}

    def tables(self):
        return {
            "p99": self.p99_table(),
            "streams": self.streams_table(),
            "unread": self.unread_table(),
            "unrest": self.unrest_table(),
            "hedging": self.hedging_table(),
            "memory": self.memory_table(),
            "allocators": self.allocators_table(),
            "instructions": self.instructions_table(),
        }

    def budget(self, row):
        """Calls `row` for each: what, bounds, aim, values, whether more is better."""
        concurrency = ("1", "16", "64", "256")
        for runtime, title in [("current", "one thread"), ("multi", "2 workers")]:
            values = [
                self.p99.ratio(
                    "p99_us",
                    dict(runtime=runtime, concurrency=n, channel="ours"),
                    dict(runtime=runtime, concurrency=n, channel="balance_list"),
                )
                for n in concurrency
            ]
            what = f"p99 to `balance_list`, {title}, at {' / '.join(concurrency)}"
            row(what, (1,) * 4, "", values)
        for workers, title in WORKERS.items():
            for ours, theirs, name in [
                ("ours_one", "tonic", "tonic's `Channel`, 1 backend"),
                ("ours", "balance_list", "`balance_list`"),
            ]:
                for n in ("1", "8"):
                    values = [
                        self.streams.of_rounds(
                            "units_per_second",
                            dict(workers=workers, shape=shape, in_flight=n, side=ours),
                            dict(workers=workers, shape=shape, in_flight=n, side=theirs),
                        )
                        for shape in SHAPES
                    ]
                    what = "1 MiB / server / client / bidirectional stream"
                    row(f"{what}, {n} at a time, throughput to {name}, {title}", (1,) * 4, "", values, True)
        for workers, title in WORKERS.items():
            beside = dict(workers=workers, shape="unary_beside_unread", side="ours_one")
            without = dict(workers=workers, shape="unary", side="ours_one")
            value = self.streams.ratio("units_per_second", beside, without)
            what = "calls/s beside a stream that nobody reads, to without"
            row(f"{what}, {title}", (0.95,), "1", [value], True)
        for workers, title in WORKERS.items():
            value = self.unrest.ratio(
                "calls_per_second",
                dict(workers=workers, state="flips"),
                dict(workers=workers, state="calm"),
            )
            what = "calls/s with 1,000 flips/s on 1,000 backends, to without"
            row(f"{what}, {title}", (0.95,), "1", [value], True)
        for threads, title, must, aim in [("1", "one thread", 20, "10"), ("2", "two threads", 60, "40")]:
            found = [float(r["pick"]) for r in self.pick if r["threads"] == threads]
            row(f"ns for a pick, {title}, at up to 10,000 backends", (must,), aim, [max(found)])
        flip = {r["servers"]: float(r["p99"]) for r in self.flip if (r["side"], r["callers"]) == ("ours", "64")}
        row("flip, p99 at 64 in flight, µs, one thread", (500,), "300", [flip["lean"]])
        scale = {(r["backends"], r["side"]): r for r in self.scale}
        ours, theirs = scale["5000", "ours"], scale["5000", "tonic_channels"]
        ready = float(ours["ready_ms"]) / float(theirs["ready_ms"])
        row("time to 5,000 READY backends, to tonic's `Channel`s with a `Watch`", (1.1,), "0.75", [ready])
        row("KiB for each of 5,000", (38,), "31", [float(ours["kib_each"])])
        removed = float(scale["10000", "ours"]["remove_p50_us"])
        row("µs until one of 10,000 is removed and published", (1000,), "", [removed])
        grown = [self.grown(calls) for calls in ("plain", "mixed with 100 resets")]
        row("KiB more on the heap after the second million of calls, plain / mixed", (64, 64), "0", grown)
        value = self.instructions["ours"] / self.instructions["balance_list"]
        row("instructions per call to `balance_list`", (0.85,), "0.6", [value])

    def grown(self, calls):
        live = [float(r["live_kib"]) for r in self.memory if r["calls"] == calls]
        return live[-1] - live[-2] if live else float("nan")

    def p99_table(self):
        head = ["runtime", "concurrent", "this crate, p99 µs (min–max)", "`balance_list`, p99 µs (min–max)", "ratio"]
        body = []
        for runtime, title in [("current", "one thread"), ("multi", "2 workers")]:
            for n in ("1", "16", "64", "256"):
                about = dict(runtime=runtime, concurrency=n)
                ours, theirs = dict(about, channel="ours"), dict(about, channel="balance_list")
                ratio = self.p99.ratio("p99_us", ours, theirs)
                spreads = [self.p99.spread("p99_us", **side) for side in (ours, theirs)]
                body.append([title, n, *spreads, f"{ratio:.2f}"])
        return head, body

    def streams_table(self):
        head = ["", "at a time", "channel"]
        for title in WORKERS.values():
            head += [f"a second, {title}", "ratio", "CPU µs", "servers busy"]
        body = []
        for shape, name in SHAPES.items():
            for n in ("1", "8"):
                for side, title in SIDES.items():
                    line = [name, n, title]
                    for workers in WORKERS:
                        about = dict(workers=workers, shape=shape, in_flight=n)
                        base = "tonic" if side in ("ours_one", "tonic") else "balance_list"
                        of, to = dict(about, side=side), dict(about, side=base)
                        digits = 0 if shape == "unary_1_mib" else 3
                        line += [
                            f"{self.streams.median('units_per_second', **of):,.0f}",
                            f"{self.streams.of_rounds('units_per_second', of, to):.2f}",
                            f"{self.streams.median('cpu_us', **of):.{digits}f}",
                            f"{self.streams.median('servers_percent', **of):.0f} %",
                        ]
                    body.append(line)
        return head, body

    def unread_table(self):
        head = ["runtime", "channel", "calls/s without", "beside", "ratio", "p99 µs without", "beside"]
        body = []
        for workers, runtime in WORKERS.items():
            for side in ("ours_one", "tonic"):
                without = dict(workers=workers, side=side, shape="unary")
                beside = dict(workers=workers, side=side, shape="unary_beside_unread")
                calls = [self.streams.median("units_per_second", **s) for s in (without, beside)]
                p99 = [self.streams.median("p99_us", **s) for s in (without, beside)]
                line = [runtime, SIDES[side], *(f"{c:,.0f}" for c in calls)]
                line += [f"{calls[1] / calls[0]:.2f}", *(f"{p:,.0f}" for p in p99)]
                body.append(line)
        return head, body

    def hedging_table(self):
        head = ["policy", "p50 ms", "p90 ms", "p99 ms (min–max)", "p99.9 ms (min–max)"]
        head += ["attempts per call", "attempts at the slow backend", "failed calls"]
        body = []
        for side, title in HEDGING.items():
            p50, p90 = (self.hedging.median(c, side=side) for c in ("p50_ms", "p90_ms"))
            body.append(
                [
                    title,
                    f"{p50:.0f}",
                    f"{p90:.0f}",
                    self.hedging.spread("p99_ms", side=side),
                    self.hedging.spread("p999_ms", side=side),
                    f"{self.hedging.median('attempts_per_call', side=side):.2f}",
                    f"{self.hedging.median('slow_percent', side=side):.0f} %",
                    f"{self.hedging.median('failed_percent', side=side):.1f} %",
                ]
            )
        return head, body

    def unrest_table(self):
        head = ["runtime", "", "calls/s (min–max)", "CPU µs per call", "client's CPU", "p99 µs", "servers busy", "publications/s"]
        body = []
        for workers, runtime in WORKERS.items():
            for state, title in STATES.items():
                about = dict(workers=workers, state=state)
                called = bool(self.unrest.values("calls_per_second", **about))
                each, p99 = (self.unrest.median(c, **about) for c in ("cpu_us_per_call", "p99_us"))
                body.append(
                    [
                        runtime,
                        title,
                        self.unrest.spread("calls_per_second", **about) if called else "",
                        f"{each:.2f}" if called else "",
                        f"{self.unrest.median('cpu_percent', **about):.1f} %",
                        f"{p99:,.0f}" if called else "",
                        f"{self.unrest.median('servers_percent', **about):.0f} %",
                        f"{self.unrest.median('publications_per_second', **about):.0f}",
                    ]
                )
        return head, body

    def allocators_table(self):
        head = ["runtime", "concurrent", "channel", "glibc", *ALLOCATORS.values()]
        body = []
        for runtime, title in [("current", "one thread"), ("multi", "2 workers")]:
            for n in ("16", "64", "256"):
                for channel in ("ours", "balance_list"):
                    about = dict(runtime=runtime, concurrency=n, channel=channel)
                    glibc = dict(about, allocator="glibc")
                    calls, cpu = (self.allocators.median(c, **glibc) for c in ("calls_per_second", "cpu_us"))
                    line = [title, n, SIDES[channel], f"{calls:,.0f} ({cpu:.2f} µs)"]
                    for allocator in ALLOCATORS:
                        this = dict(about, allocator=allocator)
                        calls, cpu = (self.allocators.ratio(c, this, glibc) for c in ("calls_per_second", "cpu_us"))
                        line.append(f"{calls:.2f} ({cpu:.2f})")
                    body.append(line)
        return head, body

    def memory_table(self):
        head = ["calls", "made", "live on the heap, KiB", "blocks", "resident, KiB"]
        body = [
            [r["calls"], f"{int(r['made']):,}", r["live_kib"], r["live_blocks"], r["resident_kib"]]
            for r in self.memory
        ]
        return head, body

    def instructions_table(self):
        head = ["channel", "instructions per call"]
        titles = {
            **SIDES,
            "ours, retry policy": "… with a retry policy and throttling",
            "ours, outlier detection": "… with outlier detection",
            "ours, metrics": "… with metrics",
        }
        return head, [[titles[name], f"{count:,.0f}"] for name, count in self.instructions.items()]
