"""Escaped text and inline pictures for a page that loads no external resources."""

from __future__ import annotations

import base64
import io
import re
import warnings

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from wdistill.core.files import template_folders
from wdistill.core.text import clean, is_url
from wdistill.evaluation.page.plot_style import FAINT, INK, PAPER, RULE

_PHONE = 300  # points; wider figures scroll on a phone, which keeps their text legible
_EXACT, _LARGEST = 64, 160  # pixels of an image's longer side
# CSS variables of the template, which have other values in dark mode
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", RULE: "var(--rule)", PAPER: "var(--paper)"}
_DRAWING = re.compile(r'<svg [^>]*viewBox="([\d. ]+)"[^>]*>(.*)</svg>', re.DOTALL)
_UNUSED = re.compile(r"<metadata>.*?</metadata>|<style .*?</style>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_GROUP_ID = re.compile(r'(?<=<g) id="[^"]*"')


def html_environment() -> Environment:
    """The template environment of the cards, with HTML escaping."""
    jinja = Environment(
        loader=FileSystemLoader(template_folders()),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["linked"] = link
    return jinja


def link(text: str, url: str | None) -> Markup:
    """A link where ``url`` is a plain http(s) address, else the bare text."""
    if url and is_url(url):
        return Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(url, clean(text))
    return Markup("{}").format(clean(text))


def svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as inline SVG, with its text in the page's font.

    ``name`` makes its ids unique on the page. Line and text colours become CSS variables, so that
    they adapt to dark mode.
    """
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        # The browser draws the text, and has the glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    drawing = _DRAWING.search(buffer.getvalue())
    assert drawing is not None  # noqa: S101 (what matplotlib writes)
    box, inside = drawing.groups()
    inside = _TAG.sub(lambda tag: _restyle(tag[0]), _UNUSED.sub("", inside))
    width = float(box.split()[2])
    kind = "plot wide" if width > _PHONE else "plot"
    label = Markup('<svg role="img" aria-label="{}" class="{}" viewBox="{}">')
    return label.format(clean(alt), kind, box) + Markup(inside) + Markup("</svg>")  # noqa: S704


def png(figure: Figure) -> bytes:
    """The figure as a picture on white."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        made = {"Software": None}  # no version of matplotlib
        figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata=made)
    return buffer.getvalue()


def _restyle(tag: str) -> str:
    """Replace colours by CSS variables and remove group ids in a tag."""
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return _GROUP_ID.sub("", tag)


def image_url(image: NDArray[np.uint8]) -> str:
    """``image`` (H, W, 3) as a data URL: lossless PNG if small, otherwise a JPEG thumbnail."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= _EXACT:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
        picture.save(buffer, "JPEG", quality=92, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
