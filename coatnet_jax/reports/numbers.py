"""Numbers in a page: rounded for people, and whole for programs.

`<data data-key="top1" value="0.8875">88.75%</data>` is one.
"""

import math

from markupsafe import Markup

from coatnet_jax.evaluation.figures import FORMS

# name of a form: how it is shown.
_FORMS = {**FORMS, 'short_share': '{:.1%}', 'whole_share': '{:.0%}'}


def format_number(value: float | int | None, form: str) -> str:
  """Returns a number as people read it; a dash for one that is not finite.

  >>> format_number(0.8875, 'share'), format_number(float('nan'), 'number')
  ('88.75%', '–')

  Args:
    value: number, a part of 1 where it is a share.
    form: 'share', 'number' or 'count', as a figure is shown; or, with fewer
      digits, 'short_share' or 'whole_share'.
  """
  if value is None or not math.isfinite(value):
    return '–'
  return _FORMS[form].format(value)


def show_number(value: float | int | None, form: str, key: str = '') -> Markup:
  """Returns a number as HTML, which holds all of its digits too.

  Args:
    value: number, as `format_number` takes it.
    form: name of the form in which the number is shown.
    key: name that a program finds it by.
  """
  name = Markup(' data-key="{}"').format(key) if key else Markup('')
  shown = format_number(value, form)
  if value is None or not math.isfinite(value):
    return Markup('<span{} data-none>{}</span>').format(name, shown)
  whole = repr(value.item() if hasattr(value, 'item') else value)
  return Markup('<data{} value="{}">{}</data>').format(name, whole, shown)


def show_interval(
  interval: tuple[float, float] | None, form: str, key: str = ''
) -> Markup:
  """Returns both ends of an interval as HTML; nothing where it has none.

  Args:
    interval: lower and upper end, or None.
    form: form of both, as `format_number` takes it.
    key: name that a program finds them by, followed by '_low' and '_high'.
  """
  if interval is None or not all(math.isfinite(end) for end in interval):
    return Markup('')
  keys = (key and f'{key}_low', key and f'{key}_high')
  low, high = (show_number(end, form, k) for end, k in zip(interval, keys))
  between = '–' if form == 'whole_share' else ' to '
  return Markup('{}{}{}').format(low, between, high)
