"""The site that `make docs` builds: the repository's own pages at their own places, and the API from the docstrings.

The pages stay plain Markdown that a forge shows as well: nothing in them is Sphinx's, and the links between them, to
folders and to code are paths in the repository, which is the folder of the sources. A broken one fails the build.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import accelerate  # noqa: E402

project = "edge-accelerate"
author = "the edge-accelerate authors"
release = accelerate.__version__
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "deploy/*/README.md", "examples/README.md", "tests/*.md", "benchmarks/*.md"]
exclude_patterns = ["site", "docs/example-backend"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
myst_heading_anchors = 4  # as a forge makes them

autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
numpydoc_show_class_members = False  # autodoc lists them

suppress_warnings = ["misc.highlighting_failure"]  # of a shell whose command goes on in a second line

html_theme = "furo"
html_title = f"edge-accelerate {release}"
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

# what stands in the margin; the pages themselves have no directives
MARGIN = {
    "Use": ["README", "docs/programs", "docs/vision", "docs/serve", "docs/viam", "docs/options", "docs/site/api"],
    "Devices": [
        "docs/choosing",
        *(f"docs/{page}" for page in ("onnxruntime", "openvino", "coral", "delegates", "triton")),
        *sorted(f"deploy/{page.parent.name}/README" for page in ROOT.glob("deploy/*/README.md")),
    ],
    "Trouble": [
        f"docs/troubleshooting/{page}"
        for page in ("wrong-answers", "nothing-on-the-gpu", "coral-not-found", "slow-first-call", "crash")
    ],
    "Take part": ["docs/writing-a-backend", "CONTRIBUTING", "tests/README", "benchmarks/README", "CHANGELOG"],
}
if (ROOT / "examples" / "README.md").exists():
    MARGIN["Use"].append("examples/README")


def add_margin(app: Any, page: str, source: list[str]) -> None:
    """Append the tables of contents to the first page, and give folders that are linked to a file to show."""
    if page == root_doc:
        for caption, pages in MARGIN.items():
            listed = "\n".join(f"/{one}" for one in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"
    here = (ROOT / page).parent
    source[0] = re.sub(r"\]\(([\w./-]+)\)", lambda link: _of_folder(here, link), source[0])


def _of_folder(here: Path, link: re.Match[str]) -> str:
    folder = here / link[1]
    if not folder.is_dir():
        return link[0]
    first = next((name for name in ("README.md", "pyproject.toml") if (folder / name).exists()), "")
    return f"]({link[1].rstrip('/')}/{first})"


def of_fields(app: Any, what: str, name: str, of: Any, options: Any, arguments: str, returns: str) -> Any:
    """Give a record the arguments that its fields are; what Python sees takes any."""
    if what != "class" or not dataclasses.is_dataclass(of):
        return None
    return f"({', '.join(map(_argument, dataclasses.fields(of)))})", ""


def _argument(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}={field.default_factory()!r}"
    return field.name if field.default is dataclasses.MISSING else f"{field.name}={field.default!r}"


def lead_to_the_first_page(app: Any, error: Exception | None) -> None:
    """Write an index.html, where a web server looks."""
    first = f"{root_doc}.html"
    text = f'<!doctype html><meta http-equiv="refresh" content="0; url={first}"><a href="{first}">{project}</a>\n'
    Path(app.outdir, "index.html").write_text(text, "utf-8")


def setup(app: Any) -> None:
    """Take part in the build: Sphinx calls this."""
    app.connect("source-read", add_margin)
    app.connect("autodoc-process-signature", of_fields)
    app.connect("build-finished", lead_to_the_first_page)
