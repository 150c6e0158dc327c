"""Lines about progress where there is no terminal."""

from __future__ import annotations

import io
import threading
import time

from tqdm.std import tqdm

from llama_index_adapters.services.progress import progress_bar, progress_lines


class Told(io.StringIO):
    """Keeps what is written, and says when something was."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        size = super().write(text)
        self.written.set()
        return size


def test_a_line_says_how_far_it_is():
    told = Told()
    with (
        progress_lines(every=0.01, file=told),
        progress_bar(
            total=50, initial=5, desc="Embedding queries", unit="text", disable=False
        ) as bar,
    ):
        bar.update(15)
        bar.set_postfix_str("batch 2")
        told.written.clear()
        assert told.written.wait(10)
    lines = told.getvalue().splitlines()
    assert lines[-1] == "Embedding queries: 20 of 50 texts (batch 2), 0 s"


def test_of_two_at_once_both_are_told():
    told = Told()
    with (
        progress_lines(every=0.01, file=told),
        progress_bar(desc="Trials", unit="trial", disable=False),
    ):
        for number in progress_bar(range(3), "Training", unit="epoch", disable=False):
            if number == 1:
                told.written.clear()
                assert told.written.wait(10)
    assert "Trials: 0 trials, 0 s; Training: 1 of 3 epochs, 0 s" in told.getvalue()


def test_what_takes_less_says_nothing_and_ends_at_once():
    told = Told()
    started = time.monotonic()
    with progress_lines(every=3600, file=told):
        assert sum(progress_bar(range(4), "Training", unit="epoch", disable=False)) == 6
    assert told.getvalue() == ""
    assert time.monotonic() - started < 60
    assert not [thread for thread in threading.enumerate() if thread.name == "progress lines"]


def test_a_bar_that_is_turned_off_says_nothing():
    told = Told()
    with (
        progress_lines(every=0.001, file=told),
        progress_bar(total=5, desc="Reading", unit="vector", disable=True) as bar,
    ):
        bar.update(2)
        time.sleep(0.02)
    assert told.getvalue() == ""


def test_outside_it_is_a_bar_of_tqdm():
    with progress_bar(total=5, desc="Reading", unit="vector", disable=True) as bar:
        assert isinstance(bar, tqdm)
