"""The question set tldr is built from a checkout of tldr-pages."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from benchmarks.tldr_pages import app, read_checkout, read_page
from llama_index_adapters import EmbeddingQAFinetuneDataset
from llama_index_adapters.errors import InvalidFileError, MissingFileError

PAGE = """# pack

> Put files into `one` file.
> Often compressed.
> See also: `unpack`.
> More information: <https://pack.example>.

- [c]reate a file from `files`:

`pack c {{target}} {{files}}`

- List what is in a file:

`pack l {{target}}`
"""
ALIAS = """# pk

> This command is an alias of `pack`.

- View documentation for the original command:

`tldr pack`
"""


@pytest.fixture
def checkout(tmp_path):
    for platform in ("common", "linux", "windows"):
        folder = tmp_path / "tldr" / "pages" / platform
        folder.mkdir(parents=True)
        for number in range(5):
            page = PAGE.replace("pack", f"pack-{platform}-{number}")
            page = page.replace("List", f"List in {platform} {number}")
            page = page.replace("[c]reate", f"[c]reate in {platform} {number}")
            (folder / f"pack-{number}.md").write_text(page)
        (folder / "pk.md").write_text(ALIAS)
    return tmp_path / "tldr"


def test_a_page_is_a_passage_without_its_descriptions():
    page = read_page(PAGE)
    assert page.descriptions == ("create a file from files", "List what is in a file")
    assert page.passage == (
        "pack\nPut files into `one` file. Often compressed.\n"
        "pack c {{target}} {{files}}\npack l {{target}}"
    )


def test_aliases_and_other_platforms_are_left_out(checkout):
    whole = read_checkout(checkout)
    assert list(whole.corpus) == [
        f"{platform}/pack-{number}" for platform in ("common", "linux") for number in range(5)
    ]
    assert len(whole.queries) == 20
    assert whole.relevant_docs["linux/pack-3#1"] == ["linux/pack-3"]


def test_the_split_is_by_query_and_seeded(checkout, tmp_path):
    def built(seed):
        output = tmp_path / "data"
        run = CliRunner().invoke(app, [str(checkout), str(output), "--seed", str(seed)])
        assert run.exit_code == 0, run.output
        assert "10 passages" in run.output
        return [
            EmbeddingQAFinetuneDataset.from_json(output / f"tldr.{part}.json")
            for part in ("train", "dev", "test")
        ]

    parts = built(0)
    assert [len(part.queries) for part in parts] == [14, 2, 4]
    assert len({query for part in parts for query in part.queries}) == 20
    assert all(len(part.corpus) == 10 for part in parts)
    assert [set(part.queries) for part in built(0)] == [set(part.queries) for part in parts]
    assert [set(part.queries) for part in built(1)] != [set(part.queries) for part in parts]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"holds no pages\. Give the folder of a checkout"):
        read_checkout(tmp_path)
    run = CliRunner().invoke(app, [str(tmp_path), str(tmp_path / "data")])
    assert run.exit_code == 2
    assert not (tmp_path / "data").exists()


def test_a_page_in_another_format_is_named(checkout):
    (checkout / "pages" / "linux" / "odd.md").write_text("nothing\n")
    with pytest.raises(InvalidFileError, match=r"odd\.md: A page has 0 titles and 0 descriptions"):
        read_checkout(checkout)
