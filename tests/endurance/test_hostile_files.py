"""The corpus of the fuzzer, and mutations of it, through every loader."""

from __future__ import annotations

import io
import os
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from llama_index_adapters.errors import InvalidAdapterError, InvalidFileError
from llama_index_adapters.questions.question_set import EmbeddingQAFinetuneDataset
from llama_index_adapters.serving.saved import load_saved
from tests.endurance.fuzz import ARGUMENTS, CORPUS, TARGETS, _load

FILES = [path for name in TARGETS for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_finding_stays_fixed(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_is_read_or_refused(name: str) -> None:
    good = (CORPUS / name / "good").read_bytes()

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @hypothesis.given(
        st.lists(
            st.tuples(st.integers(0, len(good)), st.integers(0, 8), st.binary(max_size=8)),
            min_size=1,
            max_size=4,
        )
    )
    def mutated(changes: list[tuple[int, int, bytes]]) -> None:
        data = good
        for start, length, new in changes:
            data = data[:start] + new + data[start + length :]
        TARGETS[name](data)

    mutated()


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"linear.weight": Runs(tmp_path / "ran")}, buffer)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "config.json").write_text('{"in_features": 4, "out_features": 4, "bias": false}')
    (adapter / "pytorch_model.bin").write_bytes(buffer.getvalue())
    with pytest.raises(InvalidAdapterError, match="not a file of weights that can be read safely"):
        load_saved(adapter)
    assert not (tmp_path / "ran").exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


def test_the_watch_sees_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that reads outside its directory is found."""

    def reads_elsewhere(folder: Path) -> None:
        Path("/etc/hostname").open().close()

    good = (CORPUS / "config" / "good").read_bytes()
    TARGETS["config"](good)
    monkeypatch.setattr("tests.endurance.fuzz.load_saved", reads_elsewhere)
    with pytest.raises(AssertionError, match="open /etc/hostname"):
        _load({"config.json": good})
    assert ARGUMENTS


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"9" * 10_000, "is not JSON"), (b'{"queries": {"q": "\xff"}}', "is not UTF-8 text")],
)
def test_a_dataset_of_hostile_bytes(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "set.json").write_bytes(content)
    with pytest.raises(InvalidFileError, match=message):
        EmbeddingQAFinetuneDataset.from_json(tmp_path / "set.json")
