"""The lines of a corpus on disk, read by several at once."""

from __future__ import annotations

import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from llama_index_adapters.index.corpus_files import CorpusFiles

LINES = [f"{number} {'é' * (number % 50)}" for number in range(400)]


@pytest.fixture
def files(tmp_path):
    corpus = CorpusFiles(tmp_path)
    for start in range(0, len(LINES), 100):
        corpus.append(np.ones((100, 2), np.float32), LINES[start : start + 100])
    yield corpus
    corpus.remove()


def wrong_lines(files: CorpusFiles, seed: int) -> int:
    rows = random.Random(seed).choices(range(len(LINES)), k=2000)
    return sum(files.line(row) != f"{LINES[row]}\n" for row in rows)


def test_threads_read_the_line_they_ask_for(files):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(wrong_lines, [files] * 4, range(4))) == [0] * 4
    finally:
        sys.setswitchinterval(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_reads_beside_its_parent(files):
    child = os.fork()
    if child == 0:
        os._exit(min(wrong_lines(files, 1), 1))
    ours = wrong_lines(files, 2)
    assert os.waitpid(child, 0)[1] == 0
    assert ours == 0


def test_lines_are_read_while_pages_arrive(files):
    assert files.line(0) == f"{LINES[0]}\n"
    files.append(np.ones((1, 2), np.float32), ["one more"])
    assert files.line(len(LINES)) == "one more\n"
    assert files.vectors().shape == (len(LINES) + 1, 2)
    assert files.line(len(LINES)) == "one more\n"
