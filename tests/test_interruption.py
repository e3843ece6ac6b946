import signal
import sys
import time

import pytest

from var_exp.interruption import on_ctrl_c


class Destroyed:
    """Is interrupted in its destructor."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def destroy_and_wait():
    Destroyed()
    time.sleep(10)


def once(number, frame):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(7)


def test_ctrl_c_in_a_destructor_is_not_lost():
    with pytest.raises(KeyboardInterrupt), on_ctrl_c():
        destroy_and_wait()


def test_ctrl_c_in_a_destructor_is_answered_once_more_by_whoever_answers_once():
    with pytest.raises(SystemExit, match="7"), on_ctrl_c(once):
        destroy_and_wait()


def test_what_else_a_destructor_raises_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_value))
    with on_ctrl_c():
        type("Wrong", (), {"__del__": lambda self: 1 / 0})()
    assert [type(error) for error in told] == [ZeroDivisionError]


def interrupted_while_a_list_is_made():
    """As OmegaConf does it: tidying up fails, and its error is told as another."""
    try:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            None.invalidate()
    except AttributeError as error:
        raise ValueError("a list that cannot be") from error


@pytest.mark.parametrize("answer", [signal.default_int_handler, once])
def test_an_error_of_tidying_up_does_not_take_the_place_of_ctrl_c(answer):
    raised = KeyboardInterrupt if answer is signal.default_int_handler else SystemExit
    with pytest.raises(raised), on_ctrl_c(answer):
        interrupted_while_a_list_is_made()


def refused():
    try:
        raise SystemExit(3)
    except SystemExit:
        raise ValueError("wrong") from None


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match="wrong"), on_ctrl_c():
        refused()


def test_things_are_put_back():
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with on_ctrl_c(once):
        assert signal.getsignal(signal.SIGINT) is once
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_a_process_that_is_not_to_hear_ctrl_c_does_not():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with on_ctrl_c():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
