"""Which checkpoint is the best, where numbers are not finite too."""

import json
import math

import jax.numpy as jnp
import pytest
from etils import epath

from coatnet_jax.checkpoints import quality, saving
from coatnet_jax.checkpoints.metadata import Metadata, Progress
from coatnet_jax.checkpoints.trained_model import find_checkpoint
from coatnet_jax.errors import UserError
from coatnet_jax.training import reporting

NAN, INFINITE = math.nan, math.inf


def _measures(top1, loss=1.0):
  return {'top1': top1, 'top5': 0.9, 'loss': loss, 'count': 10}


@pytest.mark.parametrize(
  ('evaluations', 'metric', 'best'),
  [
    ({1: _measures(NAN), 2: _measures(0.2), 3: _measures(0.1)}, 'top1', 2),
    ({1: _measures(0.2), 2: _measures(INFINITE)}, 'top1', 1),
    # A network whose loss is no number has a rank all the same.
    ({1: _measures(0.2), 2: _measures(0.3, loss=NAN)}, 'top1', 1),
    ({1: _measures(0.2, 3.0), 2: _measures(0.3, -INFINITE)}, 'loss', 1),
    ({1: _measures(0.2, NAN), 2: _measures(0.2, 9.0)}, 'loss', 2),
    ({1: _measures(NAN), 2: _measures(0.1, loss=NAN)}, 'top1', None),
    (
      {
        1: {**_measures(0.2), 'mean_class_accuracy': 0.6},
        2: {**_measures(0.9), 'mean_class_accuracy': 0.5},
        3: _measures(1.0),  # By an older version.
      },
      'mean_class_accuracy',
      1,
    ),
    ({}, 'loss', None),
    ({1: _measures(0.2), 2: _measures(0.2)}, 'top1', 2),
  ],
)
def test_what_is_not_finite_is_never_the_best(evaluations, metric, best):
  assert quality.find_best_evaluation(evaluations, metric) == best


def _save(
  workdir,
  evaluations,
  metric='loss',
  max_to_keep=1,
  progress=None,
  examples_per_step=1,
):
  """Saves a checkpoint of each evaluation, and keeps the newest."""
  options = saving.CheckpointOptions(
    every_steps=0, every_seconds=0, max_to_keep=max_to_keep, best_metric=metric
  )
  metadata = Metadata(
    model={},
    preprocessing={},
    class_names=('a',),
    config={'checkpoint': {'best_metric': metric}},
  )
  manager = saving.open_checkpoints(str(workdir), options, print)
  for step, metrics in evaluations.items():
    saving.save_checkpoint(
      manager,
      {'w': jnp.zeros(2)},
      step=step,
      progress=progress or Progress(examples_seen=step, seconds_in_steps=1.0),
      metadata=metadata,
    )
    saving.save_evaluation(manager, step, metrics)
  manager.remove_old()
  summary = saving.summarize(
    manager, options, examples_per_step=examples_per_step
  )
  manager.close()
  return summary


def _refuse(token):
  raise AssertionError(f'{token} is no JSON')


def test_the_best_is_kept_beside_newer_ones_that_are_not_finite(tmp_path):
  evaluations = {
    1: _measures(0.3, 2.0),
    2: _measures(0.5, 1.0),
    3: _measures(NAN, NAN),
    4: _measures(0.9, -INFINITE),
  }
  summary = _save(tmp_path, evaluations)
  assert summary['best']['step'] == 2
  assert summary['final']['step'] == 4
  assert find_checkpoint(tmp_path).name == '2'
  kept = [p for p in (tmp_path / 'checkpoints').iterdir() if p.name.isdigit()]
  assert sorted(p.name for p in kept) == ['2', '4']
  written = [*tmp_path.rglob('metrics/metrics')]
  assert len(written) == 2
  for path in written:
    json.loads(path.read_text(), parse_constant=_refuse)
  reporting.write_summary(str(tmp_path), summary)
  text = (tmp_path / 'summary.json').read_text()
  assert json.loads(text, parse_constant=_refuse)['final']['loss'] is None
  assert 'at step 2' in reporting.describe_end(str(tmp_path), summary)


def test_a_count_is_read_as_it_was_written(tmp_path):
  summary = _save(tmp_path, {1: _measures(0.5)})
  assert repr(summary['final']['count']) == '10'
  said = reporting.describe_end(str(tmp_path), summary)
  assert 'on 10 images' in said
  assert 'python -m tools.evaluate' in said
  assert 'python -m tools.predict' in said


@pytest.mark.parametrize('text', ['[]', '{"top1": "high"}', '{"top1": []}'])
def test_metrics_that_are_no_numbers_are_damaged(tmp_path, text):
  (tmp_path / 'metrics').mkdir()
  (tmp_path / 'metrics' / 'metrics').write_text(text)
  with pytest.raises(ValueError, match='is damaged'):
    quality.read_metrics(epath.Path(tmp_path))


def test_where_nothing_is_finite_it_is_said(tmp_path):
  summary = _save(
    tmp_path, {1: _measures(NAN), 2: _measures(0.1, NAN)}, max_to_keep=2
  )
  assert summary['best'] is None
  said = reporting.describe_end(str(tmp_path), summary)
  assert 'best        none: no evaluation gave finite numbers' in said
  with pytest.raises(UserError, match='no evaluation gave finite numbers'):
    find_checkpoint(tmp_path)


def test_the_rate_of_a_summary_is_that_of_the_steps(tmp_path):
  summary = _save(
    tmp_path,
    {1: _measures(0.3), 3: _measures(0.2)},
    metric='top1',
    progress=Progress(examples_seen=600, seconds=100.0, seconds_in_steps=20.0),
    examples_per_step=200,
  )
  assert summary['images_per_second'] == 30
  assert summary['images_seen'] == 600
  assert summary['seconds'] == 100
  assert (summary['final']['step'], summary['best']['step']) == (3, 1)
