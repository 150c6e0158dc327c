"""Files to passages, read and cut as LlamaIndex does it for an index."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from llama_index.core import SimpleDirectoryReader
from llama_index.core.constants import DEFAULT_CHUNK_SIZE
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.node_parser.text.sentence import SENTENCE_CHUNK_OVERLAP
from llama_index.core.schema import BaseNode, Document

from llama_index_adapters.checks import require_whole
from llama_index_adapters.errors import InvalidFileError, InvalidOptionError, MissingFileError

logger = logging.getLogger(__name__)

_SHOWN = 3


def nodes_from_files(
    paths: Sequence[Path | str], *, chunk_size: int = DEFAULT_CHUNK_SIZE
) -> list[BaseNode]:
    """Read files and cut them into passages.

    Text and metadata are those of ``SimpleDirectoryReader`` and ``SentenceSplitter`` with the
    same chunk size, so they are what an index built with these embeds. A node's id is its file
    and its number there: the same files give the same ids, and generating questions resumes.

    Args:
        paths: files, and folders, of which every file is read that is not hidden.
        chunk_size: tokens per passage, at most.

    Raises:
        MissingFileError: when a path is not there.
        InvalidFileError: for a file that is no text and has no reader (a folder's are left out,
            with a warning in the log), or when nothing is left to read.
        InvalidOptionError: for a chunk size that is too small.
    """
    splitter = _splitter(chunk_size)
    readable = SimpleDirectoryReader.supported_suffix_fn().keys()
    documents = [document for path in _files(paths, readable) for document in _documents(path)]
    try:
        nodes = splitter.get_nodes_from_documents(documents)
    except ValueError as error:
        raise InvalidOptionError(f"chunk_size is {chunk_size}: {error}") from error
    if not nodes:
        raise InvalidFileError(f"{_named(paths)}: no text was found; expected files with text.")
    return nodes


def _splitter(chunk_size: int) -> SentenceSplitter:
    require_whole(chunk_size, "chunk_size")
    fits = chunk_size >= SENTENCE_CHUNK_OVERLAP
    return SentenceSplitter(
        chunk_size=chunk_size,
        chunk_overlap=SENTENCE_CHUNK_OVERLAP if fits else chunk_size // 5,
        id_func=lambda number, document: f"{document.node_id}#{number}",
    )


def _files(paths: Sequence[Path | str], readable: Collection[str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_file():
            if not _is_readable(path, readable):
                raise InvalidFileError(
                    f"{path} is not UTF-8 text, and no reader for it is installed. Convert it to "
                    "text, or, for PDF, Word and the like, run: pip install "
                    "llama-index-readers-file"
                )
            files.append(path)
        elif path.is_dir():
            files += _files_of_folder(path, readable)
        else:
            raise MissingFileError(f"There is no file or folder {path}.")
    return list(dict.fromkeys(files))


def _files_of_folder(folder: Path, readable: Collection[str]) -> list[Path]:
    # SimpleDirectoryReader names the files of a folder by their absolute path, and passages
    # hold that name. It would take every file below a hidden folder for hidden.
    root = folder.absolute()
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts)
    ]
    kept = [path for path in found if _is_readable(path, readable)]
    left_out = [path for path in found if path not in set(kept)]
    if left_out:
        logger.warning(
            "%d of %d files in %s are not UTF-8 text and have no reader; they are left out: %s. "
            "For PDF, Word and the like, run: pip install llama-index-readers-file",
            len(left_out),
            len(found),
            folder,
            _named([path.relative_to(root) for path in left_out]),
        )
    if not kept:
        raise InvalidFileError(f"The folder {folder} has no file with text in it.")
    return kept


def _is_readable(path: Path, readable: Collection[str]) -> bool:
    """Whether LlamaIndex has a reader for it, or it is text.

    Without a reader LlamaIndex reads any file as text and drops the bytes that are none.
    """
    if path.suffix.lower() in readable:
        return True
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _documents(path: Path) -> list[Document]:
    reader = SimpleDirectoryReader(input_files=[path], filename_as_id=True, raise_on_error=True)
    try:
        documents = reader.load_data()
    except Exception as error:
        reason = error.__cause__ or error
        # What a parser says of a file may quote it.
        shown = reason if isinstance(reason, ImportError | OSError) else None
        raise InvalidFileError(
            f"{path} cannot be read ({shown or type(reason).__name__})."
        ) from shown
    return [document for document in documents if document.text.strip()]


def _named(paths: Sequence[Path | str]) -> str:
    shown = ", ".join(map(str, paths[:_SHOWN]))
    rest = len(paths) - _SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown
