"""The page: a form, and what is said of a picture.

Without scripts the form is sent, and answered by the page with the answer in
it. With scripts it is sent without leaving the page, and the answer's part is
taken out of what comes back: there is one template.
"""

import base64
import importlib.resources
from typing import Any

from coatnet_jax.escapes import escape
from coatnet_jax.explanation.methods import METHODS
from coatnet_jax.page_templates import load_templates
from coatnet_jax.serving.served_model import encode_png
from coatnet_jax.serving.service import Answer, Service
from coatnet_jax.texts import printable

# What is served beside the page, and as what.
FILES = {'page.css': 'text/css', 'page.js': 'text/javascript'}
# Files to choose from: iOS converts what is none of these.
_ACCEPTED = 'image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff'


def render_page(
  service: Service, *, answer: Answer | None = None, problem: str = ''
) -> str:
  """Returns the page.

  Args:
    service: model with its limits.
    answer: what is said of a picture, if there is one.
    problem: why there is no answer, for people; or ''.
  """
  model, limits = service.model, service.limits
  return (
    load_templates('coatnet_jax.serving', lstrip_blocks=True)
    .get_template('page.html.j2')
    .render(
      model=model,
      num_classes=f'{len(model.class_names):,}',
      accepted=_ACCEPTED,
      max_bytes=limits.max_body_bytes,
      max_size=f'{limits.max_body_bytes / 2**20:.3g} MiB',
      max_pixels=f'{limits.max_pixels / 1e6:g} megapixels',
      maps={name: METHODS[name] for name in model.maps},
      chosen=answer and (answer.map.method if answer.map else ''),
      answer=answer and _describe(answer),
      problem=problem,
    )
  )


def read_file(name: str) -> bytes:
  """Returns one of the `FILES` that belong to the page."""
  return importlib.resources.files(__package__).joinpath(name).read_bytes()


def _describe(answer: Answer) -> dict[str, Any]:
  """Returns what the template shows of an answer."""
  return {
    'rows': [
      {
        # Two classes of ImageNet are called 'crane'.
        'name': escape(p.words[0]) if p.words else printable(p.name),
        'note': printable(p.name) if p.words else '',
        'percent': f'{p.probability:.1%}',
        'width': round(100 * p.probability, 2) if p.probability >= 0 else 0,
      }
      for p in answer.predictions
    ],
    'picture': _create_uri(encode_png(answer.shown)),
    'map': answer.map and _create_uri(answer.map.png),
    'what': answer.map and answer.map.what,
    'times': {
      name: f'{1000 * seconds:.0f} ms'
      for name, seconds in answer.seconds.items()
    },
  }


def _create_uri(png: bytes) -> str:
  return f'data:image/png;base64,{base64.b64encode(png).decode("ascii")}'
