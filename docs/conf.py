"""The site: pages in Markdown, the reference from docstrings; nothing is fetched, neither now nor by readers."""

import atexit
import os
import shutil
import tempfile

# Airflow writes its configuration where it is imported from.
if "AIRFLOW_HOME" not in os.environ:
    _home = tempfile.mkdtemp(prefix="airflow-home-")
    os.environ["AIRFLOW_HOME"] = _home
    atexit.register(shutil.rmtree, _home, ignore_errors=True)

from airflow_provider_taskdl import __version__

project = "airflow-provider-taskdl"
project_copyright = "the authors, Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4

smartquotes = False  # messages are searched for as they are written

nitpicky = True
# Names that others define, and what is behind ours but not part of the reference.
nitpick_ignore_regex = [("py:.*", ".*")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False, "exclude-members": "model_config"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "airflow-provider-taskdl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
