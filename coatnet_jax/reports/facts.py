"""What a report says of a run beside its measures: settings, curves, commands.

A checkpoint and its workdir say all of it.
"""

import json
import platform
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.evaluation.results import describe_trained_model
from coatnet_jax.reports.charts import (
  Axes,
  Chart,
  find_range,
  round_range,
)
from coatnet_jax.strict_json import to_json
from coatnet_jax.training import curves

# What is on a run's curves: a title, words for the axis, and names of rows with
# those of the lines.
_CURVES = (
  ('Loss', 'loss', {'train/loss': 'training', 'eval/loss': 'evaluation'}),
  (
    'Mean average precision',
    'part',
    {'eval/mean_average_precision': 'evaluation'},
  ),
  ('Accuracy', 'part', {'eval/top1': 'top-1', 'eval/top5': 'top-5'}),
  ('Learning rate', 'rate', {'train/learning_rate': 'learning rate'}),
  ('Speed', 'images/s', {'speed/images_per_second': 'images per second'}),
)


class Change(NamedTuple):
  """A key of a config, its value in one config and in another, as JSON."""

  key: str
  before: str
  now: str


def find_workdir(checkpoint: epath.Path) -> epath.Path | None:
  """Returns the workdir of a checkpoint's directory; None if it is in none.

  >>> find_workdir(epath.Path('/runs/a/checkpoints/100')).as_posix()
  '/runs/a'
  """
  parent = checkpoint.parent
  return parent.parent if parent.name == 'checkpoints' else None


def list_changes(
  before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[Change]:
  """Returns the keys in which two configs differ.

  >>> list_changes({'a': {'b': 1}, 'c': 2}, {'a': {'b': 3}, 'c': 2})
  [Change(key='a.b', before='1', now='3')]
  """
  before, now = flatten(before), flatten(now)
  return [
    Change(key, *(_show_value(tree, key) for tree in (before, now)))
    for key in sorted(before.keys() | now.keys())
    if before.get(key) != now.get(key)
  ]


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a config by dotted key, as JSON has them.

  >>> flatten({'data': {'size': (2, 3)}})
  {'data.size': [2, 3]}
  """
  tree = config.to_dict() if isinstance(config, ConfigDict) else config
  return flatten_dict(json.loads(to_json(tree)), sep='.')


def _show_value(values: Mapping[str, Any], key: str) -> str:
  return to_json(values[key]) if key in values else '(none)'


def list_changes_from_base(config: ConfigDict) -> list[Change] | None:
  """Returns in what a config differs from configs/base.py.

  Args:
    config: config of a run, resolved.

  Returns:
    The differences; None where that file is not there, as it is in a checkout
    of the project alone.
  """
  try:
    from configs import base
  except ImportError:
    return None
  return list_changes(base.get_config(), config)


def draw_curves(workdir: epath.Path | None) -> list[Chart]:
  """Returns charts of the numbers that a run has written, where it has.

  Args:
    workdir: directory of the run.
  """
  if workdir is None:
    return []
  rows = curves.read_rows(workdir)
  charts = []
  for title, y_title, names in _CURVES:
    series = {
      shown: list(zip(*rows[name]))
      for name, shown in names.items()
      if name in rows
    }
    chart = draw_series(title, y_title, series)
    charts += [chart] if chart else []
  return charts


def draw_series(
  title: str, y_title: str, series: Mapping[str, Any]
) -> Chart | None:
  """Returns a chart of numbers by step; None where none is finite.

  Args:
    title: title of the chart.
    y_title: what the numbers are.
    series: steps and numbers, two sequences, by the name of their line.
  """
  steps = find_range(*(one[0] for one in series.values())) if series else None
  numbers = find_range(*(one[1] for one in series.values())) if series else None
  if steps is None or numbers is None:
    return None
  axes = Axes((min(steps[0], 0), steps[1]), round_range(*numbers, 5))
  lines = tuple(
    axes.create_line(name, *one, style=style, marked=True)
    for style, (name, one) in enumerate(series.items())
  )
  return axes.create_chart(title, 'step', y_title, lines=lines)


def list_commands(
  trained: TrainedModel, workdir: epath.Path | None, command: str = ''
) -> list[tuple[str, str]]:
  """Returns what to do next, and the command for it.

  Args:
    trained: model that the report is of.
    workdir: directory of its run.
    command: command that trained it, where that is known.
  """
  checkpoint = shlex.quote(str(workdir or trained.path))
  commands = []
  if workdir is not None:
    resume = f'python main.py --config=CONFIG --workdir={checkpoint}'
    commands.append(('Resume, or make longer', command or resume))
  commands += [
    ('Evaluate', f'python -m tools.evaluate --checkpoint={checkpoint}'),
    ('Predict', f'python -m tools.predict --checkpoint={checkpoint} IMAGE...'),
    ('Explain', f'python -m tools.explain --checkpoint={checkpoint} IMAGE'),
  ]
  return [
    *commands,
    (
      'Export the weights',
      f'python -m tools.export_weights --checkpoint={checkpoint}'
      ' --out=FILE.safetensors',
    ),
    (
      'Make this report again',
      f'python -m tools.report --checkpoint={checkpoint}',
    ),
  ]


def list_facts(trained: TrainedModel) -> list[tuple[str, str]]:
  """Returns what was evaluated, by what versions and on what devices."""
  facts = describe_trained_model(trained)
  code = facts.pop('code')
  shown = {
    'date': 'evaluated on (UTC)',
    'config_hash': 'hash of the config',
    'trained_on': 'trained on',
    'loss_kind': 'loss',
  }
  return [
    *((shown.get(key, key), f'{value}') for key, value in facts.items()),
    *((key, str(value)) for key, value in code.items() if value),
    ('system', f'{platform.system()} {platform.machine()}'),
  ]
