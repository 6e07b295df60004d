"""What an event costs on its way into the event log, beside `json.dumps` of the same mapping and one `os.write`.

    python benchmarks/event_log.py

Interleaved rounds; medians, and the ratio of ours to the bare two calls.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from phasewatch import Event, MetricsLogged, PhaseEnded, PhaseInfo, PhaseProgressed, PhaseStarted, Place
from phasewatch._records import record_of
from phasewatch.sinks import JsonlSink

ROUNDS, EVENTS = 41, 1000


def events() -> list[Event]:
    now = time.time()
    place = Place(host="node-17.cluster", process=31337, rank=3, thread="MainThread")
    phase = PhaseInfo(
        "VALIDATION", id="9f86d081.1f", parent="9f86d081.1", run="9f86d081.1", path=("TRAINING", "VALIDATION"), total=28,
        unit="batch", counters={"questions": 7405}, place=place,
    )  # fmt: skip
    counters, means = {"questions": 768.0}, {"reward": 0.456789}
    measures = {"done": 3, "total": 28, "elapsed": 41.2345678}
    return [
        PhaseStarted(phase, now),
        PhaseProgressed(phase, now, eta=123.456789, counters=counters, means=means, **measures),  # type: ignore[arg-type]  # ints and floats
        MetricsLogged(phase, now, values={"actor/loss": 0.1234567, "actor/kl": 0.0123, "timing/gen": 11.2345}),
        PhaseEnded(phase, now, status="completed", counters=counters, means=means, **measures),  # type: ignore[arg-type]  # ints and floats
    ]


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(EVENTS):
        call()
    return (time.perf_counter() - started) / EVENTS


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sink = JsonlSink(os.path.join(folder, "log.jsonl"))
        file = os.open(os.path.join(folder, "bare.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        print(f"{'event':10}{'ours':>10}{'bare':>10}{'ratio':>8}")
        ratios = []
        for event in events():
            record = record_of(event)

            def bare(record: dict[str, object] = record) -> None:
                os.write(file, (json.dumps(record) + "\n").encode())

            def ours(event: Event = event) -> None:
                sink.emit(event)

            pairs = [(seconds(ours), seconds(bare)) for _ in range(ROUNDS)]
            ratios.append(statistics.median(one / other for one, other in pairs))
            mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
            print(f"{event.type:10}{mine * 1e6:7.1f} µs{theirs * 1e6:7.1f} µs{ratios[-1]:8.2f}")
        print(f"{'mean':10}{statistics.mean(ratios):28.2f}")
        sink.close()
        os.close(file)


if __name__ == "__main__":
    main()
