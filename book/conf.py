"""Settings of the book (Sphinx). `make book` builds it from what book/sources.py lays out; nothing is fetched, no cell is run.

Sphinx with MyST-NB is what Jupyter Book 1 is made of, here without the versions that it pins; Jupyter Book 2 fetches its template
when it builds. The theme Furo brings all it needs, fits a phone, and its search works from the disk.
"""

import inspect

project = "The spider kit"
author = "The spider kit developers"
html_title = "The spider kit"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
default_role = "literal"  # docstrings put names in single backticks as in Markdown

# Notebooks are shown as they were committed. Widgets have no state there: the static figure beside each is shown instead.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False  # else every network repeats what torch says of modules
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
add_module_names = False
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Reference", "Shape", "Source"]
napoleon_use_ivar = True  # attributes that a class's docstring lists are not listed once more
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["kit.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
# The palette of Okabe and Ito, as in the kit's figures (spider_utils/view/plots/style.py).
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0072B2",
        "color-brand-content": "#0072B2",
        "color-brand-visited": "#7a4a66",
        "color-api-name": "#0072B2",
        "color-api-pre-name": "#555555",
    },
    "dark_css_variables": {
        "color-brand-primary": "#56B4E9",
        "color-brand-content": "#56B4E9",
        "color-brand-visited": "#CC79A7",
        "color-api-name": "#56B4E9",
        "color-api-pre-name": "#bbbbbb",
    },
}


def setup(app):
    """Leave out what says nothing of the kit: fields of named tuples, and methods that a base class of others made."""
    app.connect("autodoc-skip-member", _skip)


def _skip(app, what, name, member, skip, options) -> bool:
    foreign = inspect.isroutine(member) and not (getattr(member, "__module__", None) or "spider_utils").startswith("spider_utils")
    return skip or foreign or type(member).__name__ == "_tuplegetter"
