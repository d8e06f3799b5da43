"""Reports as files: templates to a page of HTML, with nothing outside it.

Texts from data come to the templates as they are; Jinja escapes them.
"""

from typing import Any

from etils import epath

from coatnet_jax.errors import UserError, explain_failures
from coatnet_jax.escapes import escape
from coatnet_jax.page_templates import load_templates
from coatnet_jax.paths import is_plain_file, write_whole
from coatnet_jax.texts import printable

REPORT_FILE = 'report.html'
# What says that a file is a report, and may be replaced.
GENERATOR = 'coatnet_jax report'


def _finalize(value: Any) -> Any:
  """Returns what a template shows: control characters by their numbers."""
  is_plain_text = isinstance(value, str) and not hasattr(value, '__html__')
  return escape(value) if is_plain_text else value


def render(template: str, **values: Any) -> str:
  """Returns a page.

  Args:
    template: name of the template.
    **values: what it shows, by name.
  """
  templates = load_templates('coatnet_jax.reports', finalize=_finalize)
  page = templates.get_template(template)
  return page.render(generator=GENERATOR, **values)


def write_page(path: epath.Path, text: str) -> None:
  """Writes a page, whole or not at all, in the place of an earlier report.

  Args:
    path: path of the file, perhaps gs://...
    text: page, from `render`.

  Raises:
    UserError: it cannot be written, or something else is there.
  """
  with explain_failures(f'The report cannot be written to {path}'):
    check_is_report(path)
    write_whole(path, text.encode('utf-8', 'backslashreplace'))


def check_is_report(path: epath.Path) -> None:
  """Raises UserError where a path is there that is not a report."""
  if not path.exists():
    return
  if is_plain_file(path):
    with path.open('rb') as file:
      if f'content="{GENERATOR}"'.encode() in file.read(1000):
        return
  raise UserError(
    f'{path} is there, and is no report of a run; move it away, or give'
    ' another name.'
  )


def describe_written(path: epath.Path) -> str:
  """Returns the line that says where a report is."""
  return f'report      {printable(path)}'
