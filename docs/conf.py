"""Settings of the documentation: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import guided_attention

project = "guided-attention"
author = "The guided-attention developers"
copyright = "The guided-attention developers"
version = release = guided_attention.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"guided-attention {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# A name in single backticks is a link where it names something of the library, and plain code where it does not.
default_role = "py:obj"
add_module_names = False
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Attributes become a field list: as entries of their own they would stand twice beside the members.
napoleon_use_ivar = True
# A shape before the colon of "Returns" is no type of its own.
napoleon_use_rtype = False
napoleon_custom_sections = [("Shape", "notes_style")]


def keep_colon(_app, what, _name, _obj, _options, lines):
    """Break the line after a colon: napoleon takes what stands before it on the same line for the type of the data."""
    if what == "data" and lines and ": " in lines[0]:
        head, tail = lines[0].split(": ", 1)
        lines[:1] = [f"{head}:", tail]


def setup(app):
    """Run before napoleon, which has priority 500."""
    app.connect("autodoc-process-docstring", keep_colon, priority=400)
