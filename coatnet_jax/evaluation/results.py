"""A results file: what came out, and exactly what was evaluated on what.

PATH.json for programs and PATH.md for people.
"""

import contextlib
import datetime
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.distributed import processes
from coatnet_jax.errors import UserError
from coatnet_jax.escapes import escape
from coatnet_jax.evaluation.figures import FIGURES, format_figure
from coatnet_jax.evaluation.measures import NUM_BINS
from coatnet_jax.paths import resolve_path, write_whole
from coatnet_jax.strict_json import to_json
from coatnet_jax.texts import printable
from coatnet_jax.training.workdir import compute_config_hash

_SUFFIXES = ('.json', '.md')
# No name that somebody else would give.
_PARTIAL = '.evaluate-partial'
# Figures of one row in the overview.
_FIGURES = (
  *('mean_average_precision', 'top1', 'top5', 'loss', 'calibration_error'),
  *('mean_class_accuracy', 'micro_f1', 'macro_f1', 'mean_corruption_error'),
  *('count', 'undecodable'),
)
# Those of every class.
_CLASS_FIGURES = (
  *('top1', 'average_precision', 'precision', 'recall', 'f1'),
  'count',
)


def check_results_path(path: str | os.PathLike[str]) -> epath.Path:
  """Returns the path without a suffix, checked before anything is computed.

  Args:
    path: path of the results, with or without '.json' or '.md'; may be gs://...

  Raises:
    UserError: it cannot be written to, or a file is there that is no earlier
      results file.
  """
  base = resolve_path(path, '--results')
  if base.suffix in _SUFFIXES:
    base = base.with_suffix('')
  try:
    base.parent.mkdir(parents=True, exist_ok=True)
    for suffix in _SUFFIXES:
      existing = _sibling(base, suffix)
      if existing.exists() and not _is_results(existing):
        raise UserError(
          f'--results={path}: {existing} is there, and is not of'
          ' tools.evaluate; give another name.'
        )
    partial = _sibling(base, _PARTIAL)
    partial.write_text('')
    partial.unlink()
  except OSError as error:
    raise UserError(
      f'--results={path} cannot be written: {error.strerror or error}.'
    ) from error
  return base


def _is_results(path: epath.Path) -> bool:
  """Returns whether a file is one that `write_results` has written."""
  text = path.read_bytes().decode(errors='replace')
  if path.suffix == '.md':
    return bool(re.match(r'# .* at step [\d,]+\n\n\| {2}\|', text))
  with contextlib.suppress(ValueError):
    record = json.loads(text)
    return isinstance(record, dict) and record.keys() == {'run', 'evaluations'}
  return False


def describe_trained_model(trained: TrainedModel) -> dict[str, Any]:
  """Returns what is evaluated and by what.

  Args:
    trained: model that is evaluated.

  Returns:
    'date' (UTC), 'code', 'devices', and of the model 'checkpoint', 'step',
    'model', 'config_hash' (the first digits of the SHA-256 of the run's config
    as JSON), 'classes' (how many), 'trained_on' and 'loss_kind'.
  """
  config, devices = trained.config, jax.devices()
  now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
  return {
    'date': now.isoformat(),
    'code': {
      **_describe_commit(),
      **{
        key: value for key, value in processes.describe_code().items() if value
      },
    },
    'devices': f'{len(devices)} x {devices[0].device_kind}',
    'checkpoint': str(trained.path),
    'step': trained.step,
    'model': config.model.name,
    'config_hash': compute_config_hash(config),
    'classes': len(trained.class_names),
    'trained_on': _describe_training_data(trained),
    'loss_kind': trained.loss.kind,
  }


def _describe_training_data(trained: TrainedModel) -> str:
  """Returns what a model was trained on, as far as its checkpoint knows.

  Args:
    trained: model with the config it was trained by.

  Returns:
    The kind of source, its name where that kind has one, else its directory,
    and the split; and what the run started from.
  """
  if not trained.step:
    return 'not known: imported weights'
  config = trained.config
  data = config.data
  if data.source == 'synthetic':
    found = f'synthetic, {data.synthetic_examples:,} random images'
  else:
    # Other kinds ignore a name, which a config may have all the same.
    place = (data.source == 'tfds' and data.name) or data.data_dir
    found = ' '.join(filter(None, (data.source, place, data.train_split)))
  if config.init_from:
    found += f', starting from {config.init_from}'
  return found


def _describe_commit() -> dict[str, str]:
  """Returns the commit of a checkout of this code; nothing elsewhere."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return {}
  try:
    described = subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=12'],
      cwd=root,
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return {}
  return {'commit': described.stdout.strip()}


def write_results(
  base: epath.Path,
  facts: Mapping[str, Any],
  evaluations: Sequence[Mapping[str, Any]],
) -> list[epath.Path]:
  """Writes both files, each whole or not at all.

  Args:
    base: path without suffix, from `check_results_path`.
    facts: what was evaluated by what, from `describe_trained_model`.
    evaluations: evaluations of the model, each with its figures.

  Returns:
    The paths.

  Raises:
    UserError: they cannot be written.
  """
  record = {'run': dict(facts), 'evaluations': [dict(e) for e in evaluations]}
  texts = {
    '.json': to_json(record, indent=2) + '\n',
    '.md': escape(format_markdown(facts, evaluations)),
  }
  paths = []
  try:
    for suffix, text in texts.items():
      path = _sibling(base, suffix)
      content = text.encode('utf-8', 'backslashreplace')
      write_whole(path, content, path.name + _PARTIAL)
      paths.append(path)
  except OSError as error:
    raise UserError(
      f'The results cannot be written to {base}: {error.strerror or error}.'
    ) from error
  return paths


def _sibling(base: epath.Path, suffix: str) -> epath.Path:
  """Returns base with something after it: its name may have dots."""
  return base.parent / (base.name + suffix)


def format_markdown(
  facts: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]
) -> str:
  """Returns the results as a page of Markdown."""
  names = [name for name in _FIGURES if any(name in e for e in evaluations)]
  rows = [
    [
      e['kind'].replace('_', ' '),
      e['data'],
      'x'.join(map(str, e['image_size'])),
      *(format_figure(name, e[name]) if name in e else '' for name in names),
    ]
    for e in evaluations
  ]
  header = [
    'evaluation',
    'data',
    'px',
    *(FIGURES[name].title for name in names),
  ]
  code = ', '.join(f'{key} {value}' for key, value in facts['code'].items())
  parts = [
    f'# {facts["model"]} at step {facts["step"]:,}\n',
    _table(
      ['', ''],
      [
        *([key, str(value)] for key, value in facts.items() if key != 'code'),
        ['code', code],
      ],
    ),
    _table(header, rows),
    f'Calibration error: expected, {NUM_BINS} equally wide bins.\n'
    if 'calibration_error' in names
    else '',
    *(_format_details(evaluation) for evaluation in evaluations),
  ]
  return '\n'.join(part for part in parts if part)


def _format_details(evaluation: Mapping[str, Any]) -> str:
  """Returns the section of one evaluation."""
  size = 'x'.join(map(str, evaluation['image_size']))
  facts = [
    *(f'weights: {change}' for change in evaluation['changes']),
    *evaluation['rules'],
    'preprocessing: '
    + ', '.join(f'{k} {v}' for k, v in evaluation['preprocessing'].items()),
  ]
  if evaluation.get('without_labels'):
    facts.append(
      f'{evaluation["without_labels"]:,} images have no label and do not count'
    )
  if evaluation['kind'] == 'linear_probe':
    facts.append(
      f'{evaluation["train_count"]:,} training images, L2 penalty'
      f' {evaluation["l2_penalty"]:g} of the mean loss'
    )
  parts = [
    f'## {evaluation["data"]}, {size} px\n',
    ''.join(f'- {fact}\n' for fact in facts),
  ]
  if isinstance(evaluation.get('shots'), list):
    parts.append(
      _table(
        ['images per class', 'top-1', f'std over {len(evaluation["seeds"])}'],
        [
          [str(s['shots']), f'{s["top1"]:.2%}', f'{s["top1_std"]:.2%}']
          for s in evaluation['shots']
        ],
      )
    )
  if 'corruptions' in evaluation:
    parts.append(
      _table(
        ['corruption', 'error / AlexNet', 'top-1', 'by severity'],
        [
          [
            name,
            f'{one["corruption_error"]:.2%}',
            f'{one["top1"]:.2%}',
            ', '.join(f'{x:.2%}' for x in one['top1_by_severity']),
          ]
          for name, one in evaluation['corruptions'].items()
        ],
      )
    )
  if evaluation.get('most_confused'):
    parts.append(
      _table(
        ['true', 'predicted', 'images', 'share of the class'],
        [
          [
            pair['true'],
            pair['predicted'],
            f'{pair["count"]:,}',
            f'{pair["share"]:.1%}',
          ]
          for pair in evaluation['most_confused']
        ],
      )
    )
  if evaluation.get('per_class'):
    parts.append(_format_classes(evaluation['per_class']))
  return '\n'.join(parts)


def _format_classes(classes: Sequence[Mapping[str, Any]]) -> str:
  """Returns a table with the figures that every class has."""
  names = [name for name in _CLASS_FIGURES if name in classes[0]]
  return _table(
    ['class', *(FIGURES[name].title for name in names)],
    [
      [
        one['class'],
        *(format_figure(name, one[name]) for name in names),
      ]
      for one in classes
    ],
  )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown."""
  lines = [header, ['---'] * len(header), *rows]
  return ''.join(
    '| '
    + ' | '.join(printable(cell).replace('|', '\\|') for cell in line)
    + ' |\n'
    for line in lines
  )
