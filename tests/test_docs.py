"""The documents say what the code does: parameters, numbers, links, names, commands."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from dataclasses import fields
from enum import Enum

import pytest
import typer

import llama_index_adapters
from llama_index_adapters import (
    AdapterEmbeddingModel,
    EmbeddingAdapterFinetuneEngine,
    generate_qa_embedding_pairs,
)
from llama_index_adapters.adapters.disk import config
from llama_index_adapters.adapters.families import DEFAULT_RANK
from llama_index_adapters.cli.app import app
from llama_index_adapters.engines import unlabelled
from llama_index_adapters.training import closed_form, holdout, threads
from llama_index_adapters.training.options import (
    DRAWN_NEGATIVES,
    WHOLE_CORPUS_UP_TO,
    TrainingOptions,
)
from llama_index_adapters.training.search import candidates, judging, plan, remember
from tests.documents import (
    DOCUMENTS,
    ROOT,
    anchors,
    blocks,
    code_spans,
    links,
    table_below,
)

MIGRATION = "docs/migration.md"
HOW = " ".join((ROOT / "docs/how-it-works.md").read_text(encoding="utf-8").split())


def shown(default: object) -> str:
    """A default as the tables write it."""
    if default is inspect.Parameter.empty:
        return "required"
    return f"`{default}`" if isinstance(default, Enum) else f"`{default!r}`"


def parameters(function: object) -> dict[str, str]:
    return {
        name: shown(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def options() -> dict[str, str]:
    made = TrainingOptions()
    return {option.name: shown(getattr(made, option.name)) for option in fields(made)}


class TestMigration:
    @pytest.mark.parametrize(
        ("heading", "expected"),
        [
            ("`EmbeddingAdapterFinetuneEngine`", parameters(EmbeddingAdapterFinetuneEngine)),
            ("Training options", options()),
            ("`AdapterEmbeddingModel`", parameters(AdapterEmbeddingModel)),
            ("`generate_qa_embedding_pairs`", parameters(generate_qa_embedding_pairs)),
        ],
    )
    def test_the_tables_have_every_parameter_and_its_default(self, heading, expected):
        table = table_below(MIGRATION, heading)
        assert {name: row[1] for name, row in table.items()} == expected

    def test_the_rank_that_is_named_is_the_default(self):
        rows = table_below(MIGRATION, "`EmbeddingAdapterFinetuneEngine`")
        assert rows["rank"][2].endswith(f"then {DEFAULT_RANK}")

    def test_what_is_imported_now_is_there(self):
        table = table_below(MIGRATION, "Import lines")
        names = {name for row in table.values() for name in row[0].strip("`").split(", ")}
        assert len(names) > 7
        assert names <= set(llama_index_adapters.__all__)


class TestHowItWorks:
    """A number that is changed in the code has to be changed in the document."""

    def test_numbers(self, subtests):
        for stated in (
            f"one-sided at {judging.CERTAINTY:.1%} by",
            f"within {judging.SIMPLER_WITHIN:g} standard errors",
            f"one-sided at {TrainingOptions.certainty:.1%}; else",
            f"Up to {WHOLE_CORPUS_UP_TO:,} passages",
            f"draws {DRAWN_NEGATIVES:,}",
            f"{plan.FOLDS}-fold cross-validation",
            f"validation set of {holdout.ENOUGH_JUDGED} queries or more",
            f"at most {holdout.MOST_JUDGED:,} queries",
            f"more than {plan.FEW_TRIALS_ABOVE:.0e}".replace("e+", "e"),
            f"with {plan.SEEDS} seeds",
            f"by {closed_form.SHRINKAGE:g}.",
            f"at most {remember.MOST_ENTRIES:,} entries",
            f"at most {remember.MOST_ENTRIES * 384 / 1e6:.1f} million multiply-adds",
            f"about {remember.MOST_ENTRIES * 384 * 8 / 1e6:.0f} MB",
            f"with `scale` {TrainingOptions.scale:g}",
            f"for each {threads.MULTIPLY_ADDS_A_THREAD:.0e} multiply-adds".replace("e+0", "e"),
        ):
            with subtests.test(stated):
                assert stated in HOW

    def test_whitening_powers(self):
        alone = [f"{power:g}" for power in candidates.PASSAGE_POWERS]
        both = set(candidates.BOTH_POWERS)
        assert len(both) == 1
        stated = f"`b` of {', '.join(alone[:-1])} and {alone[-1]} with `a` of 0, and {both.pop():g}"
        assert stated in HOW

    def test_powers_without_labels(self):
        assert f"`b` is {unlabelled.PASSAGE_POWER:g}" in HOW
        assert unlabelled.PASSAGE_POWER_WITH_LOG == unlabelled.QUERY_POWER
        assert f"both are {unlabelled.QUERY_POWER:g}" in HOW

    def test_pulls_and_rates(self):
        pulls = [f"{pull:g}" for pull in candidates.PULLS]
        assert f"pulls of {', '.join(pulls[:-1])} and {pulls[-1]}" in HOW
        first = plan.RATES[plan.FIRST_RATE : plan.FIRST_RATE + 2]
        assert f"{first[0]:g} and {first[1]:g}" in HOW
        assert f"between {plan.RATES[0]:.5f} and {plan.RATES[-1]:g}" in HOW
        assert plan.SCALES[plan.FIRST_SCALE] == TrainingOptions.scale
        assert f"between {plan.SCALES[0]:g} and {plan.SCALES[-1]:g}" in HOW


@pytest.mark.parametrize(
    ("heading", "entry"),
    [
        ("config.json", config.AdapterConfig),
        ("A query model", config.QueryModel),
        ("A map", config.Half),
        ("A section", config.SectionEntry),
    ],
)
def test_the_format_has_every_key_and_its_default(heading, entry):
    stated = {key: row[1] for key, row in table_below("docs/format.md", heading).items()}
    assert stated.keys() == entry.model_fields.keys()
    for key, field in entry.model_fields.items():
        if field.is_required():
            assert not stated[key], key
        elif key == "dimensions":
            assert stated[key] == "both `null`"
        else:
            assert stated[key] == f"`{json.dumps(field.get_default(call_default_factory=True))}`"


class TestEveryDocument:
    def test_links_lead_somewhere(self, subtests):
        for name in DOCUMENTS:
            for target in links(name):
                if "://" in target:
                    continue
                path, _, anchor = target.partition("#")
                linked = (ROOT / name).parent / path if path else ROOT / name
                with subtests.test(document=name, link=target):
                    assert linked.exists()
                    assert not anchor or anchor in anchors(linked.relative_to(ROOT).as_posix())

    def test_files_that_are_named_exist(self, subtests):
        """In documents for developers; a user's own files are not ours to find."""
        ours = r"(llama_index_adapters|tests|docs|notebooks)/[\w./-]*"
        for name in DOCUMENTS:
            for span in code_spans(name):
                if re.fullmatch(ours, span):
                    with subtests.test(document=name):
                        assert (ROOT / span).exists()

    def test_python_compiles_and_its_imports_work(self, subtests):
        for name in DOCUMENTS:
            for block in blocks(name, "python"):
                with subtests.test(document=name, line=block.line):
                    tree = ast.parse(block.code, name)
                    tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
                    exec(compile(tree, name, "exec"), {})

    def test_commands_exist(self, subtests):
        commands = typer.main.get_command(app).commands
        targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for name in DOCUMENTS:
            for block in blocks(name, "sh"):
                for line in block.code.replace("\\\n", " ").splitlines():
                    program, *words = shlex.split(line, comments=True) or [""]
                    with subtests.test(document=name, command=line):
                        if program == "make":
                            assert set(words) <= targets
                        if program == "llama-index-adapters":
                            options = commands[words[0]].params
                            known = {flag for option in options for flag in option.opts}
                            assert {word for word in words if word.startswith("-")} <= known

    def test_nothing_of_one_machine_or_unfinished(self, subtests):
        machine = r"/home/|/root|/work/|/Users/|site-packages|TODO|FIXME"
        for name in DOCUMENTS:
            with subtests.test(document=name):
                assert not re.search(machine, (ROOT / name).read_text(encoding="utf-8"))
