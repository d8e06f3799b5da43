"""Lists the named models: what they cost, and which trained weights exist.

    python -m tools.variants
    python -m tools.variants 'coatnet_*_rw_*'
    python -m tools.variants --weights

Parameters are for 1000 classes at the variant's own image size (px); 'G at px'
is blank where that is one of the sizes beside it.
Multiply-adds are billions per image, of convolutions and matrix products. What
the paper reports is in parentheses; its FLOPs are multiply-adds too, with 1 to
4 percent of elementwise work on top. The top-1 accuracy of published weights is
on ImageNet-1k, in percent, where they have its classes.

With --weights: the published weights alone, a line each, by the name or address
that --config.init_from, coatnet_jax.load_weights and tools.import_timm take
(an address is to be downloaded first), with millions of parameters, image size,
number of classes, top-1 accuracy, licence and address.

With --json: a list of objects with name, image_size, parameters, multiply_adds
(by image size; null where the size is not possible), paper (its parameters and
multiply_adds, or null) and weights (tag, num_classes, top1, image_size, url);
with --weights, of those weights, with variant, source, millions and licence.
"""

import os

# Tracing needs no accelerator: it may be busy, or slow to start.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import coatnet_jax
from coatnet_jax import terminal
from coatnet_jax.errors import UserError, list_choices
from coatnet_jax.models.cost import count_cost
from coatnet_jax.models.variants import get_variant
from coatnet_jax.strict_json import to_json
from coatnet_jax.weights.published import (
  PublishedWeights,
  list_published_weights,
)
from tools import command_line

IMAGE_SIZES = (224, 384, 512)
# Tracing is Python, a second or so per size; each process has its own jax.
MAX_PROCESSES = 8

# Tables 4, 5, 9, 13 and 14: parameters in millions, and FLOPs in billions by
# image size. Its CoAtNet-6 is both of ours.
_PAPER_6 = (1470, {512: 1521})
PAPER: dict[str, tuple[float, dict[int, float]]] = {
  'coatnet_0': (25, {224: 4.2, 384: 13.4}),
  'coatnet_0_strided_depthwise': (25, {224: 4.6}),
  'coatnet_1': (42, {224: 8.4, 384: 27.4}),
  'coatnet_1_strided_depthwise': (42, {224: 8.8}),
  'coatnet_2': (75, {224: 15.7, 384: 49.8, 512: 96.7}),
  'coatnet_2_strided_depthwise': (75, {224: 16.6}),
  'coatnet_3': (168, {224: 34.7, 384: 107.4, 512: 203.1}),
  'coatnet_3_strided_depthwise': (168, {384: 114, 512: 214}),
  'coatnet_4': (275, {384: 189.5, 512: 360.9}),
  'coatnet_5': (688, {512: 812}),
  'coatnet_6': _PAPER_6,
  'coatnet_6_d3072': _PAPER_6,
  'coatnet_7': (2440, {512: 2586}),
}


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('variants', __doc__)
  parser.add_argument(
    'pattern',
    nargs='?',
    default='*',
    metavar='PATTERN',
    help="a shell pattern of names, as 'coatnet_*_rw_*'; all if left out",
  )
  parser.add_argument(
    '--weights',
    action='store_true',
    help='list the published weights of these variants, and where they are',
  )
  form = parser.add_mutually_exclusive_group()
  form.add_argument(
    '--json', action='store_true', help='print JSON, and nothing else'
  )
  form.add_argument(
    '--markdown', action='store_true', help='print a table in Markdown'
  )
  return parser


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: no variant matches.
  """
  options = create_parser().parse_args(arguments)
  names = coatnet_jax.list_variants(options.pattern)
  if not names:
    names = coatnet_jax.list_variants()
    raise UserError(
      f'PATTERN is {options.pattern!r}, which matches no variant;'
      f' {list_choices(options.pattern, names)}'
    )
  if options.weights:
    published = [w for name in names for w in list_published_weights(name)]
    for line in format_weights(published, options):
      command_line.show(line)
    return 0
  terminal.begin('tracing the models')
  if options.json:
    command_line.show(to_json([*describe_variants(names)], indent=2))
    return 0
  for line in format_header(names, markdown=options.markdown):
    command_line.show(line)
  for described in describe_variants(names):
    row = format_row(described)
    command_line.show(format_line(row, names, markdown=options.markdown))
  return 0


def describe_variants(names: list[str]) -> Iterator[dict[str, Any]]:
  """Yields `describe_variant` of each, several at a time."""
  processes = min(os.cpu_count() or 1, len(names), MAX_PROCESSES)
  if processes == 1:
    yield from map(describe_variant, names)
    return
  context = multiprocessing.get_context('spawn')
  with ProcessPoolExecutor(processes, context) as pool:
    try:
      yield from pool.map(describe_variant, names)
    finally:
      # When interrupted, what has not begun would be counted first.
      pool.shutdown(cancel_futures=True)


def describe_variant(name: str) -> dict[str, Any]:
  """Returns what --json prints of a variant.

  Args:
    name: name of the variant.

  Returns:
    See the module; 'multiply_adds' has `IMAGE_SIZES` and, if it is another,
    the variant's own size as keys, as text, like '224' or '160x224'.
  """
  model = coatnet_jax.create_model(name)
  own_size = get_variant(name).image_size
  own = count_cost(model, own_size)
  multiply_adds = {_format_size(own_size): own.multiply_adds}
  for size in IMAGE_SIZES:
    if (size, size) != own_size:
      multiply_adds[str(size)] = _count_multiply_adds(model, size)
  paper = None
  if name in PAPER:
    millions, billions = PAPER[name]
    paper = {
      'parameters': round(millions * 1e6),
      'multiply_adds': {str(s): round(n * 1e9) for s, n in billions.items()},
    }
  return {
    'name': name,
    'image_size': own_size,
    'parameters': own.parameters,
    'multiply_adds': multiply_adds,
    'paper': paper,
    'weights': [
      _describe_weights(weights) for weights in list_published_weights(name)
    ],
  }


def _describe_weights(weights: PublishedWeights) -> dict[str, Any]:
  """Returns what --json prints of published weights beside their variant."""
  names = ('tag', 'num_classes', 'top1', 'image_size', 'url')
  return {name: getattr(weights, name) for name in names}


def format_weights(
  published: list[PublishedWeights], options: argparse.Namespace
) -> list[str]:
  """Returns the lines of --weights.

  Args:
    published: published weights to list.
    options: arguments of `create_parser`, of which the form is used.
  """
  if options.json:
    described = [
      {
        'source': weights.source,
        'variant': weights.variant,
        **_describe_weights(weights),
        'millions': weights.millions,
        'licence': weights.licence,
      }
      for weights in published
    ]
    return [to_json(described, indent=2)]
  titles = ('weights', 'params', 'px', 'classes', 'top-1', 'licence', 'address')
  rows = [
    (
      weights.source if weights.is_on_hub else weights.tag,
      f'{weights.millions:.2f}M',
      _format_size(weights.image_size),
      f'{weights.num_classes:,}',
      '' if weights.top1 is None else f'{weights.top1:.2f}',
      weights.licence,
      weights.url,
    )
    for weights in published
  ]
  if options.markdown:
    rule = '| --- |' + ' ---: |' * 4 + ' --- | --- |'
    header, *lines = (f'| {" | ".join(row)} |' for row in [titles, *rows])
    return [header, rule, *lines]
  widths = [max(map(len, column)) for column in zip(titles, *rows)]
  return [
    '  '.join(
      text.rjust(width) if 1 <= place <= 4 else text.ljust(width)
      for place, (text, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in [titles, *rows]
  ]


def _count_multiply_adds(model, size):
  """Returns the number for square images, None if they don't fit."""
  try:
    return count_cost(model, (size, size)).multiply_adds
  except UserError:
    return None


def format_header(names: list[str], *, markdown: bool) -> list[str]:
  """Returns the lines above the first row."""
  titles = ('variant', 'params', 'px', 'G at px')
  titles += (*(f'G at {size}' for size in IMAGE_SIZES), 'weights')
  header = format_line(titles, names, markdown=markdown)
  if not markdown:
    return [header]
  return [header, '| --- |' + ' ---: |' * (len(titles) - 2) + ' --- |']


def format_line(
  row: tuple[str, ...], names: list[str], *, markdown: bool
) -> str:
  """Returns a row as a line whose columns stand below those of all others.

  Args:
    row: text of each column.
    names: names of all variants in the table.
    markdown: whether to separate the columns as Markdown does.
  """
  if markdown:
    return f'| {" | ".join(row)} |'
  first, *numbers, last = row
  widths = (17, 4, 8, *(15 for _ in IMAGE_SIZES))
  columns = [first.ljust(max(map(len, [*names, 'variant'])))]
  columns += [text.rjust(width) for text, width in zip(numbers, widths)]
  return '  '.join([*columns, last]).rstrip()


def format_row(described: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the columns of a variant.

  Args:
    described: description from `describe_variant`.
  """
  standard = [str(size) for size in IMAGE_SIZES]
  own_size = _format_size(described['image_size'])
  paper = described['paper'] or {'parameters': None, 'multiply_adds': {}}
  counted, reported = described['multiply_adds'], paper['multiply_adds']
  return (
    described['name'],
    _with_paper(described['parameters'], paper['parameters'], 1e6, 'M'),
    own_size,
    # Once is enough.
    '' if own_size in standard else _format_number(counted[own_size], 1e9),
    *(_with_paper(counted[size], reported.get(size), 1e9) for size in standard),
    ', '.join(
      weights['tag'].removeprefix(f'{described["name"]}.')
      + (f' {weights["top1"]:.2f}' if weights['top1'] is not None else '')
      for weights in described['weights']
    ),
  )


def _format_size(size):
  height, width = size
  return str(height) if height == width else f'{height}x{width}'


def _with_paper(ours, theirs, unit, suffix=''):
  text = _format_number(ours, unit, suffix)
  return text if theirs is None else f'{text} ({theirs / unit:g}{suffix})'


def _format_number(number, unit, suffix=''):
  return '-' if number is None else f'{number / unit:,.2f}{suffix}'


if __name__ == '__main__':
  command_line.run_tool(main)
