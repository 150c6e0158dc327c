"""One HTML file that shows what an adapter changed (extra ``report``).

Plots are Bokeh's: its script is 1.27 MB and is put into the page, where Plotly's smallest bundle
has more than 1.5 MB with maps that are of no use here, and Altair needs ``eval``, which the page's
content policy forbids. Bokeh is maintained, has the BSD licence, and needs no network. The page is
a Jinja template that escapes everything it is given.
"""

from __future__ import annotations

from llama_index_adapters.errors import MissingExtraError

try:
    from llama_index_adapters.report.write import Report, write_report
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] not in ("bokeh", "jinja2"):
        raise
    raise MissingExtraError(
        "llama_index_adapters.report needs bokeh and jinja2, which this environment does not have. "
        'Run: pip install "llama-index-adapters[report]"'
    ) from error

__all__ = ["Report", "write_report"]
