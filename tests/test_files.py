from __future__ import annotations

import logging
import traceback

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode

from llama_index_adapters.errors import InvalidFileError, InvalidOptionError, MissingFileError
from llama_index_adapters.questions.generation import documents
from llama_index_adapters.questions.generation.documents import nodes_from_files

LONG = " ".join(f"Sentence number {number} says something." for number in range(400))


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    (docs / "deeper").mkdir(parents=True)
    (docs / "long.txt").write_text(LONG)
    (docs / "deeper" / "naïve.md").write_text("Größe matters.", encoding="utf-8")
    (docs / ".hidden").write_text("not me")
    (docs / "empty.txt").write_text("")
    return docs


def embedded_texts(nodes):
    return [node.get_content(MetadataMode.EMBED) for node in nodes]


def test_passages_are_those_of_an_index_made_with_the_same_parts(folder):
    reader = SimpleDirectoryReader(folder, recursive=True, exclude_empty=True)
    documents = reader.load_data()
    expected = SentenceSplitter(chunk_size=300).get_nodes_from_documents(documents)
    found = nodes_from_files([folder], chunk_size=300)
    assert len(found) > 5
    assert sorted(embedded_texts(found)) == sorted(embedded_texts(expected))


def test_ids_are_the_same_every_time_and_all_different(folder):
    first, second = (
        [node.node_id for node in nodes_from_files([folder], chunk_size=300)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first)


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    docs = tmp_path / ".config" / "docs"
    docs.mkdir(parents=True)
    (docs / "a.txt").write_text("Found.")
    assert [node.get_content() for node in nodes_from_files([docs])] == ["Found."]


def test_a_file_named_twice_is_read_once(folder):
    path = folder / "deeper" / "naïve.md"
    assert len(nodes_from_files([path, path])) == 1


def test_binary_files_of_a_folder_are_left_out_and_named(folder, caplog):
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    (folder / "zeros.dat").write_bytes(b"a\0b")
    with caplog.at_level(logging.WARNING, "llama_index_adapters"):
        texts = embedded_texts(nodes_from_files([folder]))
    assert not any("PNG" in text for text in texts)
    assert "2 of 5 files" in caplog.text
    assert "picture.png, zeros.dat" in caplog.text


def test_a_binary_file_that_was_named_is_refused(tmp_path):
    path = tmp_path / "book.pdf"
    path.write_bytes(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3")
    with pytest.raises(InvalidFileError, match=r"book\.pdf is not UTF-8 text.*pip install"):
        nodes_from_files([path])


def test_nothing_to_read_is_refused(tmp_path, folder):
    with pytest.raises(MissingFileError, match=r"There is no file or folder .*nowhere"):
        nodes_from_files([tmp_path / "nowhere"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InvalidFileError, match="bare has no file with text"):
        nodes_from_files([tmp_path / "bare"])
    with pytest.raises(InvalidFileError, match=r"empty\.txt: no text was found"):
        nodes_from_files([folder / "empty.txt"])


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_a_chunk_size_that_is_too_small_is_refused(folder, chunk_size):
    with pytest.raises(InvalidOptionError, match=f"chunk_size is {chunk_size}"):
        nodes_from_files([folder], chunk_size=chunk_size)


def test_chunks_may_be_smaller_than_llamaindex_s_overlap(folder):
    assert len(nodes_from_files([folder], chunk_size=100)) > 20


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("the private text"), "ValueError"),
        (ImportError("run: pip install x"), "run: pi"),
    ],
)
def test_what_a_parser_says_of_a_file_is_shown_only_when_it_cannot_quote_it(
    folder, monkeypatch, error, shown
):
    def fail(reader):
        raise error

    monkeypatch.setattr(documents.SimpleDirectoryReader, "load_data", fail)
    with pytest.raises(InvalidFileError, match=rf"cannot be read \({shown}") as caught:
        nodes_from_files([folder])
    assert "private" not in "".join(traceback.format_exception(caught.value))
