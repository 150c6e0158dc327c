"""The commands in one application, and what a person sees when one of them fails."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from llama_index_adapters.cli import align, demo, evaluate, finetune, generate, report, split
from llama_index_adapters.cli.models import missing_key
from llama_index_adapters.cli.output import progress_shown
from llama_index_adapters.errors import AdaptersError
from llama_index_adapters.version import __version__

PROGRAM = "llama-index-adapters"
WRONG_USE = 2
UNEXPECTED = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

# Libraries that log every request, or advice for people who call them.
_CHATTY = ("httpx", "llama_index", "openai", "sentence_transformers", "transformers")

HELP = """Finetune a small adapter on the query side of any embedding model.

The vectors you have stored stay as they are: only questions are mapped, so that they come
closer to the passages that answer them. See it work first:

\b
  llama-index-adapters demo

Then the same on your own documents:

\b
  llama-index-adapters generate docs/ -o train.json
  llama-index-adapters finetune train.json --embed-model local -o adapter
"""

# Set by the lines that --show-completion gives a shell; it then asks for completions.
COMPLETE = "_LLAMA_INDEX_ADAPTERS_COMPLETE"

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
app.command(help=demo.HELP)(demo.demo)
app.command(help=generate.HELP)(generate.generate)
app.command(help=split.HELP)(split.split)
app.command(help=finetune.HELP)(finetune.finetune)
app.command(help=evaluate.HELP)(evaluate.evaluate)
app.command(help=report.HELP)(report.report)
app.command(help=align.HELP)(align.align)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(help=HELP, invoke_without_command=True)
def _common(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log every step, and show where an error came from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Do what every command needs first."""
    context.with_resource(_log_shown(debug))
    if context.invoked_subcommand is not None:
        context.with_resource(progress_shown())
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: the words after the program's name; those it was called with when left out.

    Returns:
        0; 3 from ``align`` below its threshold; 2 when a file, an option or a service was wrong,
        130 after Ctrl-C and 1 for an error of this program, each with one line on standard error.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        # Not the application itself: it would draw a box around an error.
        command = typer.main.get_command(app)
        if COMPLETE in os.environ:
            command.main(list(words), prog_name=PROGRAM)
        with command.make_context(PROGRAM, list(words)) as context:
            try:
                command.invoke(context)
            except Exception:
                if context.params.get("debug"):
                    logging.getLogger(__name__).exception("Where the error came from:")
                raise
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail(
            "Interrupted. What was embedded or answered is stored; the same command continues.",
            INTERRUPTED,
        )
    except BrokenPipeError:
        return UNEXPECTED  # whoever read the output has gone
    except Exception as error:
        return _fail(*_explained(error))
    return 0


def _explained(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # click's, of which typer may carry a copy of its own
        context = getattr(error, "ctx", None)
        called = PROGRAM if context is None else context.command_path
        return f"{error.format_message()} (help: {called} --help)", WRONG_USE
    key = missing_key(error)
    if key is not None:
        return key, WRONG_USE
    if isinstance(error, AdaptersError | OSError):
        return str(error), WRONG_USE
    return (
        f"An unexpected {type(error).__name__}: {error} "
        f"({PROGRAM} --debug COMMAND ... shows where)",
        UNEXPECTED,
    )


def _fail(message: str, status: int) -> int:
    typer.echo(f"{PROGRAM}: {' '.join(message.split())}", err=True)
    return status


@contextmanager
def _log_shown(debug: bool) -> Iterator[None]:
    """Show warnings, or with ``debug`` every step, on standard error; afterwards as before."""
    root, own = logging.getLogger(), logging.getLogger("llama_index_adapters")
    chatty = [logging.getLogger(name) for name in _CHATTY]
    before = [(logger, logger.level) for logger in (own, *chatty)]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(handler)
    own.setLevel(logging.DEBUG if debug else logging.WARNING)
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            for logger in chatty:
                logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.removeHandler(handler)
            for logger, level in before:
                logger.setLevel(level)
