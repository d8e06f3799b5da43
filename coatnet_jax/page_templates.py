"""The templates of a room's pages: `*.html.j2` files beside its modules."""

import functools
from typing import Any

import jinja2


@functools.cache
def load_templates(package: str, **options: Any) -> jinja2.Environment:
  """Returns a package's templates, which escape whatever they show.

  Args:
    package: name of the package that the templates lie in.
    **options: further options, those of `jinja2.Environment`.
  """
  return jinja2.Environment(
    loader=jinja2.PackageLoader(package, '.'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    **options,
  )
