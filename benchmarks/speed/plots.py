"""The curves as two small pictures: time and memory by the number of passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from benchmarks.speed.figures import Curve
from llama_index_adapters.files.atomic import write_text

GIB = 2**30


def draw(curves: Sequence[Curve], folder: Path) -> dict[str, str]:
    """Write the pictures into a folder; return the file name and the description of each.

    The same curves give the same bytes.
    """
    with_memory = [curve for curve in curves if curve.bytes is not None]
    pictures = {
        "performance-time.svg": ("Seconds by passages", curves, lambda curve: curve.seconds),
        "performance-memory.svg": (
            "Peak memory of the process in GiB by passages",
            with_memory,
            lambda curve: [size / GIB for size in curve.bytes],
        ),
    }
    for name, (title, shown, values) in pictures.items():
        write_text(folder / name, _svg(title, shown, values))
    return {name: title for name, (title, _, _) in pictures.items()}


def _svg(title: str, curves: Sequence[Curve], values: Callable[[Curve], Sequence[float]]) -> str:
    from matplotlib import rc_context

    # Text stays text, and ids come from a salt rather than from chance.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "performance"}):
        canvas = Canvas(figsize=(7, 4.2), layout="constrained")
        axes = canvas.subplots()
        for curve, marker in zip(curves, "osD^v<>ph*", strict=False):
            axes.plot(curve.passages, values(curve), marker=marker, label=curve.what)
        axes.set(xscale="log", yscale="log", xlabel="passages of 384 dimensions", title=title)
        axes.grid(alpha=0.3)
        canvas.legend(loc="outside lower center", fontsize="small", frameon=False)
        written = StringIO()
        canvas.savefig(written, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"
