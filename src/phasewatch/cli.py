"""The command: ``phasewatch summary``, ``watch``, ``diff``, ``export`` and ``plan``. A thin face over the package.

Exit codes: 0, all is well; 1, a run that did not complete, one that became slower than ``--fail-above`` allows, or a plan
with warnings; 2, a call or a file that could not be used. 141 when the reader of a pipe has gone, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import chain
from typing import TYPE_CHECKING

from .metalog.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from .events import Event
    from .reader import Reading

    Command = Callable[[argparse.Namespace], int]

OK, UNWELL, UNUSABLE = 0, 1, 2
_INTERRUPTED, _BROKEN_PIPE = 130, 141
_STANDARD_INPUT = "-"
_LOG = "an event log or a text log, gzipped or not, a folder of logs, or - for standard input"


class _UnusableError(Exception):
    """What a person is told in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; return its exit code."""
    options = _parser().parse_args(arguments)
    run: Command = options.run
    try:
        code = run(options)
        sys.stdout.flush()
    except _UnusableError as error:
        return _complain(str(error))
    except BrokenPipeError:
        # What is left in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _complain(message: str) -> int:
    print(f"phasewatch: {one_line(message)}", file=sys.stderr)
    return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    description = "What runs did, from their logs, and what one will do."
    parser = argparse.ArgumentParser(prog="phasewatch", description=description, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and exit")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for add in (_add_summary, _add_watch, _add_diff, _add_export, _add_plan):
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # here: it costs more than all the rest

        try:
            print(f"phasewatch {version('phasewatch')}")
        except PackageNotFoundError:
            print("phasewatch, not installed")
        parser.exit()


def _command(commands: Any, name: str, run: Command, help: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command; return its parser, for its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}. {details}".strip(), allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _read(source: str, *, follow: bool = False) -> Reading:
    from .reader import read

    return read(sys.stdin if source == _STANDARD_INPUT else source, follow=follow)


def _with_events(source: str, reading: Iterator[Event]) -> Iterator[Event]:
    """Yield the events of a log, of which there must be some."""
    found = False
    for event in reading:
        found = True
        yield event
    if not found:
        raise _no_phases(source)


def _no_phases(source: str) -> _UnusableError:
    name = "standard input" if source == _STANDARD_INPUT else source
    return _UnusableError(f"{name}: no phases in it; is it a log of a run with phasewatch, or its META LOG?")


def _print_json(figures: dict[str, Any]) -> None:
    # In ASCII: a name with the escapes of a terminal cannot act in one.
    print(json.dumps(figures, allow_nan=False, indent=2))


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000


# Each command: its arguments, and what it does.


def _add_summary(commands: Any) -> None:
    parser = _command(
        commands, "summary", _summary, "where the time of a run went, and in which phase it died",
        "The exit code is 1 if the run did not complete.",
    )  # fmt: skip
    parser.add_argument("log", help=_LOG)
    parser.add_argument("--all", action="store_true", help="all kinds of phase, where there are more than fit")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")


def _summary(options: argparse.Namespace) -> int:
    from ._tables import ROWS, show, summary_parts

    summary = _summary_of(options.log)
    if options.json:
        _print_json(summary.as_dict())
    else:
        show(summary_parts(summary, width=_width(), rows=None if options.all else ROWS), sys.stdout)
    return OK if summary.status == "completed" else UNWELL


def _summary_of(source: str, *, follow: bool = False) -> Any:
    from ._lives import Lives
    from .summary import Aggregate

    reading, aggregate, lives = _read(source, follow=follow), Aggregate(), Lives()
    for event in _with_events(source, reading):
        aggregate.add(event)
        lives.take(event)
    lives.look()
    summary = aggregate.summary(skipped=reading.skipped, dropped=reading.dropped, goes_on=lives.goes_on)
    summary.killed = lives.none_is_left
    return summary


def _add_watch(commands: Any) -> None:
    parser = _command(
        commands, "watch", _watch, "a run while it goes on: what is open, how far it is, and what has ended",
        "It ends when the run has ended, and when Ctrl-C is pressed. The exit code is 1 if the run did not complete.",
    )  # fmt: skip
    parser.add_argument("log", help=_LOG)
    parser.add_argument("--once", action="store_true", help="print what is open now, and exit")
    parser.add_argument("--json", action="store_true", help="all figures as JSON instead: at the end, or with --once now")


def _watch(options: argparse.Namespace) -> int:
    from ._watch import look, watch

    source = sys.stdin if options.log == _STANDARD_INPUT else options.log
    if options.json:
        summary = _summary_of(options.log, follow=not options.once)
        _print_json(summary.as_dict())
    elif options.once:
        summary = look(source, sys.stdout)
        if summary.status is None:
            raise _no_phases(options.log)
    else:
        summary = watch(source, sys.stdout)
    return OK if summary.status == "completed" else UNWELL


def _add_diff(commands: Any) -> None:
    parser = _command(
        commands, "diff", _diff, "what changed from one run to another, and whether it is more than noise",
        "A kind of phase is slower or faster if Welch's t-test says so, at an error rate of 1%% for all kinds together.",
    )  # fmt: skip
    parser.add_argument("a", metavar="A", help=_LOG)
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument(
        "--fail-above", type=_share, metavar="PERCENT", default=None,
        help="exit with 1 if a kind of phase became slower by more than this, as 10%%, and by more than noise",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="all rows, where there are more than fit")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")


def _share(text: str) -> float:
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise argparse.ArgumentTypeError(f"{one_line(text)!r} is no percentage; give one such as 10%")
    return share


def _diff(options: argparse.Namespace) -> int:
    from ._tables import ROWS, change, comparison_parts, show
    from .comparison import diff
    from .summary import shown_path

    if options.a == options.b == _STANDARD_INPUT:
        raise _UnusableError("only one of the two can be standard input")
    comparison = diff(_summary_of(options.a), _summary_of(options.b))
    slower = [] if options.fail_above is None else comparison.slower_than(options.fail_above)
    if options.json:
        _print_json({**comparison.as_dict(), "failed": [list(kind.path) for kind in slower]})
    else:
        show(comparison_parts(comparison, width=_width(), rows=None if options.all else ROWS), sys.stdout)
    sys.stdout.flush()
    for kind in slower:
        print(f"phasewatch: slower than allowed: {shown_path(kind.path)} ({change(kind.ratio)})", file=sys.stderr)
    return UNWELL if slower else OK


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", _export, "a run in the format of another tool")
    parser.add_argument("log", help=_LOG)
    parser.add_argument(
        "--to", required=True, choices=("chrome", "otlp-json", "csv"),
        help="chrome: a trace for ui.perfetto.dev and chrome://tracing; otlp-json: for an OpenTelemetry collector; "
        "csv: a row for each phase",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="where to, by default standard output")


def _export(options: argparse.Namespace) -> int:
    from .export import FORMATS

    pieces = FORMATS[options.to](_with_events(options.log, _read(options.log)))
    first = next(pieces)  # the log is read, so that one that cannot be leaves no file
    if options.output is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="")
        # The CSV has texts as they are; in a terminal none may act.
        shown = map(_harmless, chain([first], pieces)) if sys.stdout.isatty() else chain([first], pieces)
        sys.stdout.writelines(shown)
        return OK
    if options.log != _STANDARD_INPUT and os.path.exists(options.output) and os.path.samefile(options.log, options.output):
        raise _UnusableError(f"{options.output}: is the log itself; give another name")
    with open(options.output, "w", encoding="utf-8", newline="") as out:
        out.write(first)
        out.writelines(pieces)
    return OK


def _harmless(piece: str) -> str:
    """Return text of several lines without what acts in a terminal."""
    escaped = (char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in piece)
    return "".join(escaped).replace("\\r\n", "\n")


_NUMBERS = {
    "total_steps": "the last training step",
    "epochs": "how often the data is gone through",
    "steps_per_epoch": "training steps in one epoch",
    "start_step": "steps that were done before: a resumed run",
    "train_samples": "those of one epoch",
    "val_samples": "those of one validation",
    "val_batches": "batches in one validation",
}
_CUSTOMS = {
    "at_last_step": "as verl does: the last step saves and validates whenever the frequency is positive",
    "drop_last": "a last batch that is not full is left out",
    "val_drop_last": "validation leaves it out",
}


def _add_plan(commands: Any) -> None:
    parser = _command(
        commands, "plan", _plan, "what a training run will do, in which order, and what looks like a mistake",
        "Nothing is run: a script is read. The exit code is 1 if there are warnings.",
    )  # fmt: skip
    parser.add_argument("config", metavar="CONFIG", help="a .sh, .yaml or .json file, or the first override")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", help="that outrank the file; what a script is called with"
    )
    for option, help in _NUMBERS.items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, metavar="N", help=help)
    for option, help in _CUSTOMS.items():
        parser.add_argument(f"--{option.replace('_', '-')}", action="store_const", const=True, help=help)
    parser.add_argument("--history", metavar="LOG", help=f"of an earlier run, to tell how long it takes: {_LOG}")
    parser.add_argument("--all", action="store_true", help="the whole schedule, where it is longer than fits")
    parser.add_argument("--json", action="store_true", help="all of it as JSON")


def _plan(options: argparse.Namespace) -> int:
    from ._tables import ROWS, show
    from .outlook import as_dict, expected, parts
    from .plan import TrainingPlan

    given = {name: getattr(options, name) for name in (*_NUMBERS, *_CUSTOMS) if getattr(options, name) is not None}
    is_override = "=" in options.config and not os.path.exists(options.config)
    source = [options.config] if is_override else options.config
    try:
        plan = TrainingPlan.from_config(source, overrides=options.overrides, **given)
    except (ValueError, TypeError, ImportError) as error:
        raise _UnusableError(str(error)) from None
    expectation = None if options.history is None else expected(plan, _summary_of(options.history))
    done_at = None
    if expectation is not None and expectation.total is not None:
        done_at = time.time() + expectation.total
    if options.json:
        figures = as_dict(plan, expectation)
        _print_json(figures if expectation is None else {**figures, "done_at": done_at})
    else:
        show(parts(plan, expectation, done_at=done_at, rows=None if options.all else ROWS), sys.stdout)
    return UNWELL if plan.warnings() else OK
