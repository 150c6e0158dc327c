"""The page as text: the template, with style and scripts inside and everything else shut out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llama_index_adapters.report import plots

MAX_BYTES = 3_000_000


def rendered(content: Mapping[str, Any]) -> str:
    """Return the page.

    Its content policy admits the two scripts by their hash and nothing else: no other script, no
    connection, no font, no frame, no form.

    Args:
        content: what the template names.
    """
    environment = Environment(
        loader=PackageLoader("llama_index_adapters.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Bokeh names a model where it comes first, so the order of keys is a part of the document.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters |= {"signed": _signed, "share": _share, "took": _took}
    # Parts of this package and of Bokeh, which hold nothing that was given.
    scripts = [plots.script(), _part(environment, "page.js")]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    page: str = environment.get_template("page.html").render(
        content,
        policy=Markup(policy),
        style=Markup(_part(environment, "page.css")),
        scripts=[Markup(script) for script in scripts],
    )
    return page


def _part(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _share(value: float) -> str:
    return f"{value:.0%}"


def _took(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
