"""Draws the runs: calls a second and CPU per call against concurrency, as SVG."""

COLOURS = {
    "ours": ("#0072b2", "this crate"),
    "h2": ("#767676", "bare h2"),
    "tonic": ("#e69f00", "tonic Channel, 1 backend"),
    "balance_list": ("#d55e00", "tonic balance_list"),
}
PEERS = {
    "ours": ("#0072b2", "this crate"),
    "balance_list": ("#d55e00", "tonic balance_list"),
    "ginepro": ("#f0b800", "ginepro"),
    "grpc-go": ("#009e73", "grpc-go"),
    "grpc-java": ("#cc79a7", "grpc-java"),
    "grpc-c++": ("#555555", "C++ gRPC"),
}
WIDTH, HEIGHT = 880, 640
PANEL_WIDTH, PANEL_HEIGHT = 350, 210
LEFT, TOP, STEP_X, STEP_Y = 70, 70, 430, 285


def text(x, y, words, size=12, anchor="middle", colour="#333", extra=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}" {extra}>{words}</text>'
    )


def nice_step(top):
    """A round step, of which four to eight reach `top`."""
    step = 10.0 ** len(str(int(top)))
    while True:
        for part in (1, 2, 4, 5, 10, 20, 40, 50, 100):
            if 4 <= top / (step / part) < 8:
                return step / part
        step /= 100


def panel(run, colours, column, title, scale, x, y, least=1):
    concurrency = [n for n in run.concurrency if n >= least]
    out = [text(x, y - 14, title, 13, "start", "#111", 'font-weight="bold"')]
    medians = {
        c: [run.median(c, n, column) / scale for n in concurrency] for c in colours
    }
    spread = {
        c: [[v / scale for v in run.values(c, n, column)] for n in concurrency]
        for c in colours
    }
    top = max(v for rounds in spread.values() for vs in rounds for v in vs) * 1.05
    step = nice_step(top)
    at_x = [
        x + 20 + i * (PANEL_WIDTH - 40) / max(1, len(concurrency) - 1)
        for i in range(len(concurrency))
    ]

    def at_y(value):
        return y + PANEL_HEIGHT * (1 - value / top)

    line = 0.0
    while line <= top:
        out.append(
            f'<path d="M{x} {at_y(line):.1f}h{PANEL_WIDTH}" stroke="#ddd" stroke-width="1"/>'
        )
        out.append(text(x - 6, at_y(line) + 4, f"{line:g}", 11, "end"))
        line += step
    for px, n in zip(at_x, concurrency):
        out.append(text(px, y + PANEL_HEIGHT + 16, n, 11))
    out.append(text(x + PANEL_WIDTH / 2, y + PANEL_HEIGHT + 33, "calls in flight", 11))
    for channel, (colour, _) in colours.items():
        points = [(px, at_y(v)) for px, v in zip(at_x, medians[channel])]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for (px, py), values in zip(points, spread[channel]):
            low, high = at_y(min(values)), at_y(max(values))
            out.append(
                f'<path d="M{px:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="1"/>'
            )
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
    return out


def plot(current, multi, colours=COLOURS):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    x = LEFT
    for colour, name in colours.values():
        out.append(f'<path d="M{x} 22h24" stroke="{colour}" stroke-width="3"/>')
        out.append(text(x + 30, 26, name, 13, "start"))
        x += 60 + 7.2 * len(name)
    for column, (run, threads) in enumerate([(current, "one thread"), (multi, "2 workers")]):
        at_x = LEFT + column * STEP_X
        calls = f"calls a second, thousands: {threads}"
        out += panel(run, colours, "calls_per_second", calls, 1000, at_x, TOP)
        cpu = f"client CPU per call, µs: {threads}"
        # One caller at a time costs ten times as much, which is all one would see.
        out += panel(run, colours, "cpu_us", cpu, 1, at_x, TOP + STEP_Y, least=2)
    return "\n".join(out + ["</svg>", ""])


SIDES = {"ours": ("#0072b2", "this crate"), "theirs": ("#d55e00", "tonic Channels with a Watch each")}


HEDGING = {
    "none": ("#767676", "no policy"),
    "retry": ("#e69f00", "retries"),
    "hedge_p95": ("#0072b2", "hedge after the p95"),
    "hedge_p50": ("#009e73", "hedge after the p50"),
}


def lines(panels, sides=SIDES):
    """Panels, up to three in a row: a title, what x is, its values, and those of each side."""
    in_row = min(3, len(panels))
    row_height = PANEL_HEIGHT + 85
    height = TOP + row_height * -(-len(panels) // in_row) - 35
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, (colour, name) in enumerate(sides.values()):
        x = LEFT + 170 * number
        out.append(f'<path d="M{x} 22h24" stroke="{colour}" stroke-width="3"/>')
        out.append(text(x + 30, 26, name, 13, "start"))
    width = (WIDTH - LEFT) / in_row
    for number, (title, label, xs, of_sides) in enumerate(panels):
        x, inner = LEFT + number % in_row * width, width - 60
        y_top = TOP + number // in_row * row_height
        bottom = y_top + PANEL_HEIGHT
        out.append(text(x, y_top - 14, title, 13, "start", "#111", 'font-weight="bold"'))
        top = 1.05 * max(max(values) for values in of_sides.values())
        step = nice_step(top)
        at_x = [x + 20 + i * (inner - 40) / max(1, len(xs) - 1) for i in range(len(xs))]
        at_y = [bottom - PANEL_HEIGHT * i * step / top for i in range(int(top / step) + 1)]
        for i, y in enumerate(at_y):
            out.append(f'<path d="M{x:.1f} {y:.1f}h{inner:.1f}" stroke="#ddd" stroke-width="1"/>')
            out.append(text(x - 6, y + 4, f"{i * step:g}", 11, "end"))
        for px, value in zip(at_x, xs):
            out.append(text(px, bottom + 16, value, 11))
        out.append(text(x + inner / 2, bottom + 33, label, 11))
        for side, values in of_sides.items():
            colour = sides[side][0]
            points = [(px, bottom - PANEL_HEIGHT * v / top) for px, v in zip(at_x, values)]
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            for px, py in points:
                out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
    return "\n".join(out + ["</svg>", ""])
