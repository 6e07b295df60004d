"""The figures as tables in Markdown and as a picture."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from importlib.metadata import version

from growth import Growth, Million
from measuring import BARE, OURS, AtMost, Holds, Reached, Row, Share, Times, ratio

PEERS = (
    "tqdm", "rich", "alive-progress", "enlighten", "codetiming", "opentelemetry-sdk", "logfire", "eliot", "loguru",
    "structlog",
)  # fmt: skip
FLAT_MEMORY, LINEAR_TIME = 5_000_000, 1.2  # bytes; the last tenth beside the first


@dataclass(frozen=True)
class Line:
    """One bound, and what was reached."""

    work: str
    must: str
    reached: str
    is_met: bool
    ours: str
    peers: str

    def cells(self, *, first: bool) -> str:
        """Return the line of the table; what is said of the work itself, only in its first."""
        sign = "yes" if self.is_met else "**no**"
        return _line(
            self.work if first else "",
            self.must,
            self.reached,
            sign,
            self.ours if first else "",
            self.peers if first else "",
        )


HEADER = [
    "| work | must | reached (10th to 90th percentile) | met | phasewatch | peers |",
    "|---|---|---|---|---|---|",
]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def head() -> str:
    """Return the machine and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("phasewatch", *PEERS))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores; {versions}."


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "a processor without a name"


def lines(row: Row) -> list[Line]:
    """Return what is said of a row."""
    times = row.times
    ours = amount(statistics.median(times[OURS]))
    peers = ", ".join(f"{name} {amount(statistics.median(of))}" for name, of in times.items() if name != OURS)
    said = []
    for bound in row.must:
        reached = bound.reached(times)
        is_met = bound.is_met(reached)
        match bound:
            case AtMost(seconds):
                over = " over the bare loop" if BARE in row.raw else ""
                text = f"{amount(reached.value)} ({amount(reached.low)} to {amount(reached.high)})"
                said.append(Line(row.work, f"≤ {amount(seconds)}{over}", text, is_met, ours, peers))
            case Share(peer, share):
                said.append(Line(row.work, f"≤ {_fraction(share)} of {peer}", _ratio(reached), is_met, ours, peers))
            case Holds(text):
                said.append(Line(row.work, text, "so" if is_met else "not so", is_met, ours, peers))
    return said


def _fraction(share: float) -> str:
    fraction = Fraction(share).limit_denominator(50)
    return str(fraction) if fraction.numerator == 1 < fraction.denominator > 2 else f"{share:g}"


def _ratio(reached: Reached) -> str:
    return f"{reached.value:.2g} ({reached.low:.2g} to {reached.high:.2g})"


def of_million(million: Million) -> list[Line]:
    """Return what is said of a million phases."""
    work = "1,000,000 nested phases, the event log"
    each = f"{amount(sum(million.tenths) / 1_000_000)} a phase"
    if million.grown is None:
        memory = Line(work, "memory flat within 5 MB", "cannot be read here", True, each, "")
    else:
        grown = f"{million.grown / 1e6:+.1f} MB from 10 % to 100 %"
        memory = Line(work, "memory flat within 5 MB", grown, million.grown <= FLAT_MEMORY, each, "")
    pace = f"{million.pace:.2f}"
    return [memory, Line(work, f"the last tenth ≤ {LINEAR_TIME} of the first", pace, million.pace <= LINEAR_TIME, each, "")]


def table(said: Sequence[Line]) -> list[str]:
    """Return the table of what must be, and what was reached."""
    return [*HEADER, *(line.cells(first=i == 0 or said[i - 1].work != line.work) for i, line in enumerate(said))]


def beside_peers(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the README's table: ours, and its share of what each peer takes."""
    yield "| work | phasewatch | peers (ours as a share of theirs) |"
    yield "|---|---|---|"
    for row in rows:
        times = row.times
        shares = [
            f"{name} {amount(statistics.median(of))} ({_share(ratio(times[OURS], of).value)})"
            for name, of in times.items()
            if name != OURS
        ]
        over = ", over a bare loop" if BARE in row.raw and row.work != "import" else ""
        yield _line(f"{row.work}{over}", amount(statistics.median(times[OURS])), ", ".join(shares))


def _share(value: float) -> str:
    return f"{max(value, 0.0):.2g}" if value >= 0.01 else "below 0.01"


def of_instructions(counted: list[tuple[str, dict[str, float]]]) -> Iterator[str]:
    """Yield the table of instructions."""
    yield "| work | phasewatch | peers |"
    yield "|---|---|---|"
    for work, counts in counted:
        peers = ", ".join(f"{name} {count:,.0f}" for name, count in counts.items() if name != OURS)
        yield _line(work, f"{max(0, round(counts[OURS])):,}", peers)


def of_growth(growths: list[Growth]) -> Iterator[str]:
    """Yield a table for each thing that grows."""
    for number, over in enumerate(dict.fromkeys(growth.over for growth in growths)):
        if number:
            yield ""
        some = [growth for growth in growths if growth.over == over]
        sizes = list(some[0].costs)
        yield _line(f"{over}:", *(f"{size:,}" for size in sizes))
        yield "|---" * (len(sizes) + 1) + "|"
        for growth in some:
            yield _line(growth.work, *(amount(growth.costs[size]) for size in sizes))


def of_workloads(workloads: dict[str, Times]) -> Iterator[str]:
    """Yield the table of real work."""
    yield "| work | bare | beside bare (10th to 90th percentile) |"
    yield "|---|---|---|"
    for work, times in workloads.items():
        beside = [f"{name} {_ratio_of_work(ratio(of, times[BARE]))}" for name, of in times.items() if name != BARE]
        yield _line(work, amount(statistics.median(times[BARE])), ", ".join(beside))


def _ratio_of_work(reached: Reached) -> str:
    return f"{reached.value:.3f} ({reached.low:.3f} to {reached.high:.3f})"


def amount(seconds: float) -> str:
    """Return seconds as a person reads them."""
    size, unit = next(
        (size, unit)
        for size, unit in ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
        if abs(seconds) < 1000 * size or unit == "s"
    )
    number = seconds / size
    text = f"{number:.{0 if abs(number) >= 9.95 else 1}f}"
    return f"{text.replace('-0.0', '0.0')} {unit}"


# The picture.

WIDTH, LABELS, AMOUNTS, BAR, GAP = 930, 220, 80, 16, 30  # pixels
LEAST = 1e-9  # seconds, where the scale begins: what costs less has no bar


def picture(rows: Sequence[Row]) -> str:
    """Return an SVG of what each row costs, on a logarithmic scale."""
    drawn: list[str] = []
    y = 50
    most = max(statistics.median(of) for row in rows for of in row.times.values())
    room = WIDTH - LABELS - AMOUNTS - 20
    for row in rows:
        over = ", over a bare loop" if BARE in row.raw and row.work != "import" else ""
        drawn.append(f'<text x="10" y="{y}" class="work">{escape((row.work + over).replace("`", ""))}</text>')
        y += 8
        for name, of in row.times.items():
            seconds = statistics.median(of)
            long = room * max(0.0, math.log(max(seconds, LEAST) / LEAST) / math.log(most / LEAST))
            kind = "ours" if name == OURS else "peer"
            drawn.append(
                f'<text x="{LABELS - 8}" y="{y + 12}" class="name">{escape(name)}</text>'
                f'<rect x="{LABELS}" y="{y}" width="{max(long, 1):.0f}" height="{BAR - 3}" class="{kind}"/>'
                f'<text x="{LABELS + max(long, 1) + 6:.0f}" y="{y + 12}">{escape(amount(seconds))}</text>'
            )
            y += BAR
        y += GAP
    style = (
        "text{font:12px sans-serif;fill:#24292f}.work{font-weight:bold}.title{font-size:15px;font-weight:bold}"
        ".name{text-anchor:end}.ours{fill:#0a7d4f}.peer{fill:#b6bec7}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">',
            "<title>What phasewatch costs beside its peers</title>",
            f"<style>{style}</style>",
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
            '<text x="10" y="24" class="title">What it costs: medians, on a logarithmic scale</text>',
            *drawn,
            "</svg>",
            "",
        ]
    )
