"""What integrations share."""

from __future__ import annotations

import copy
import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import phasewatch
from phasewatch import phase
from phasewatch.integrations._flow import Flow, contained, surround

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phasewatch.testing import PhaseLog


def test_what_one_callback_opens_another_closes(phaselog: PhaseLog) -> None:
    flow = Flow()
    assert flow.innermost() is None
    training = flow.begin("TRAINING", total=2, unit="step")
    assert flow.enter(training.step()) is flow.find("TRAINING STEP") is flow.innermost()
    flow.end(flow.find("TRAINING STEP"))
    flow.end(training)
    assert (training.status, training.done, bool(flow)) == ("completed", 1, False)
    assert phasewatch.current() is None


def test_an_end_closes_what_was_left_open_inside(phaselog: PhaseLog) -> None:
    flow = Flow()
    outer, inner = flow.begin("OUTER"), flow.begin("INNER")
    flow.end(outer, ValueError("gone"))
    assert (inner.status, outer.status) == ("failed", "failed")


def test_of_phases_of_one_name_the_innermost_is_found(phaselog: PhaseLog) -> None:
    flow = Flow()
    outer, inner = flow.begin("VALIDATION"), flow.begin("VALIDATION")
    assert flow.find("VALIDATION") is inner
    flow.end(inner)
    assert flow.find("VALIDATION") is outer
    flow.close()


def test_metrics_that_are_known_after_the_end_are_those_of_the_phase(phaselog: PhaseLog) -> None:
    flow = Flow()
    step = flow.begin("STEP")
    flow.end(step)
    flow.log_after(step, {"loss": 0.5})
    flow.log_after(step, {})
    assert [event.values for event in phaselog.events if isinstance(event, phasewatch.MetricsLogged)] == [{"loss": 0.5}]
    (node,) = phasewatch.Timeline.from_events(phaselog.events).roots
    assert (node.status, node.metrics) == ("completed", {"loss": 0.5})


def test_an_end_without_a_beginning_does_nothing(phaselog: PhaseLog) -> None:
    flow, other = Flow(), Flow()
    open_one = flow.begin("OPEN")
    flow.end(None)
    flow.end(other.begin("ELSEWHERE"))
    assert phasewatch.current() is not None
    assert [type(event).__name__ for event in phaselog.events] == ["PhaseStarted", "PhaseStarted"]
    other.close()
    flow.close()
    flow.close()
    assert open_one.status == "completed"


def test_a_run_is_opened_only_where_nothing_is_open(phaselog: PhaseLog) -> None:
    flow = Flow()
    flow.begin_run("mine")
    current = phasewatch.current()
    assert current is not None
    assert current.name == "mine"
    flow.close()
    with phase("OUTER") as outer:
        flow.begin_run("mine")
        assert phasewatch.current() is outer
        assert not flow


def test_a_callback_that_fails_is_logged_and_not_seen(caplog: pytest.LogCaptureFixture) -> None:
    @contained
    def on_step(number: int) -> Any:
        return 1 // number

    assert (on_step(1), on_step(0)) == (1, None)
    assert "on_step failed" in caplog.text


def test_ctrl_c_inside_of_a_callback_is_no_failure_of_it(caplog: pytest.LogCaptureFixture) -> None:
    @contained
    def on_step() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_step()
    assert caplog.text == ""


class Trainer:
    def save(self, path: str) -> str:
        if path == "full":
            raise OSError("no room")
        if path == "slow":
            raise KeyboardInterrupt
        return f"saved {path}"


@pytest.mark.parametrize("owner", ["class", "object"])
def test_a_method_is_surrounded_and_freed_again(phaselog: PhaseLog, owner: str) -> None:
    trainer = Trainer()
    undo = surround(Trainer if owner == "class" else trainer, "save", lambda *args: phase("CHECKPOINT SAVING", at=args[-1]))
    try:
        assert trainer.save("here") == "saved here"
        with pytest.raises(OSError, match="no room"):
            trainer.save("full")
        with pytest.raises(KeyboardInterrupt):
            trainer.save("slow")
    finally:
        undo()
    trainer.save("quietly")
    statuses = [event.status for event in phaselog.events if isinstance(event, phasewatch.PhaseEnded)]
    assert statuses == ["completed", "failed", "interrupted"]
    assert vars(trainer) == {}


def test_what_cannot_be_put_around_a_call_leaves_the_call(caplog: pytest.LogCaptureFixture) -> None:
    @contextmanager
    def around(*_: Any) -> Iterator[None]:
        yield
        raise RuntimeError("left badly")

    makers: list[Any] = [lambda *_: 1 / 0, lambda *_: None, around]
    for broken in makers:
        undo = surround(Trainer, "save", broken)
        assert Trainer().save("here") == "saved here"
        undo()
    assert caplog.text.count("the trainer goes on") == 2


def test_a_method_that_was_wrapped_again_stays_wrapped() -> None:
    trainer = Trainer()
    undo = surround(trainer, "save", lambda _: None)
    ours = trainer.save
    vars(trainer)["save"] = lambda path: ours(path).upper()
    undo()
    assert trainer.save("here") == "SAVED HERE"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copy_of_an_object_has_its_own_method(phaselog: PhaseLog, copied: Any) -> None:
    trainer = Trainer()
    surround(trainer, "save", lambda *_: phase("CHECKPOINT SAVING"))
    other = copied(trainer)
    assert other.save("here") == "saved here"
    assert other.save.__self__ is other
    assert phaselog.events == []
    assert trainer.save("here") == "saved here"
    assert len(phaselog.events) == 2


def test_a_method_that_is_gone_is_an_error_of_the_installer() -> None:
    with pytest.raises(AttributeError):
        surround(Trainer, "gone", lambda: None)


class Block:
    """What notes how it was left."""

    def __init__(self) -> None:
        self.left: list[Any] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *how: Any) -> None:
        self.left.append(how)


def test_what_is_around_a_call_is_left_as_a_with_block_is() -> None:
    trainer, block = Trainer(), Block()
    surround(trainer, "save", lambda *_: block)
    assert trainer.save.__name__ == "save"
    trainer.save("here")
    with pytest.raises(OSError, match="no room") as raised:
        trainer.save("full")
    (none, (kind, error, traceback)) = block.left
    assert none == (None, None, None)
    assert (kind, error) == (OSError, raised.value)
    assert traceback is not None
