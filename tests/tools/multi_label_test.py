"""A model of several labels, evaluated and reported: the whole way."""

import json

import jax
import numpy as np
import pytest
from sklearn import metrics

import train
from coatnet_jax.checkpoints.trained_model import load_trained_model
from tests.multi_label_examples import (
  NAMES,
  create_config,
  draw_label_sets,
  paint_labels,
  write_list,
)
from tools import evaluate

pytestmark = pytest.mark.slow

_NUMBER, _DAMAGED = 160, 99
_SETS = draw_label_sets(_NUMBER)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """Returns the list of pictures, of which one cannot be decoded."""
  folder = tmp_path_factory.mktemp('pictures')
  return write_list(folder, _SETS, split='validation', damaged=(_DAMAGED,))


@pytest.fixture(scope='module')
def workdir(pictures, tiny_variant, tmp_path_factory):
  """Returns the workdir of a finished run; not to be changed."""
  workdir = tmp_path_factory.mktemp('run') / 'a'
  train.train_and_evaluate(create_config(pictures), str(workdir))
  return workdir


@pytest.fixture(scope='module')
def best(workdir):
  """Returns the best evaluation of the run."""
  return json.loads((workdir / 'summary.json').read_text())['best']


@pytest.fixture(scope='module')
def predicted(workdir):
  """Returns targets and logits, [n, 4] both, by the model alone."""
  trained = load_trained_model(workdir)
  numbers = [n for n in range(_NUMBER // 2, _NUMBER) if n != _DAMAGED]
  pixels = np.stack([paint_labels(_SETS[n], n) for n in numbers]) / 255.0
  pixels = (pixels - trained.preprocessing.mean) / trained.preprocessing.std
  logits = jax.jit(
    lambda x: trained.model.apply(trained.variables, x, train=False)
  )(pixels.astype(np.float32))
  targets = [[k in _SETS[n] for k in range(4)] for n in numbers]
  # The classes in the order of their names.
  order = sorted(range(4), key=lambda k: NAMES[k])
  assert trained.class_names == tuple(NAMES[k] for k in order)
  return np.array(targets)[:, order], np.asarray(logits, np.float64)


def _evaluate(capsys, *arguments):
  assert evaluate.main([*map(str, arguments), '--json']) == 0
  said = capsys.readouterr()
  return json.loads(said.out), said.err


def test_a_workdir_alone_gives_what_training_saw(
  workdir, best, predicted, tmp_path, capsys
):
  said, err = _evaluate(
    capsys, f'--checkpoint={workdir}', f'--results={tmp_path}/r'
  )
  assert said['kind'] == 'multi_label'
  names = ('mean_average_precision', 'top1', 'top5', 'loss', 'count')
  assert {n: said[n] for n in names} == {n: best[n] for n in names}
  assert said['undecodable'] == 1
  assert f'Cannot decode {workdir}' not in err
  assert '099.png' in err
  targets, logits = predicted
  assert said['mean_average_precision'] == pytest.approx(
    metrics.average_precision_score(targets, logits)
  )
  decided = logits >= 0
  for name in ('micro', 'macro'):
    assert said[f'{name}_f1'] == pytest.approx(
      metrics.f1_score(targets, decided, average=name)
    )
  expected = metrics.precision_recall_fscore_support(
    targets, decided, zero_division=np.nan
  )
  for label, one in enumerate(said['per_class']):
    assert one['class'] == sorted(NAMES)[label]
    figures = [
      np.nan if one[name] is None else one[name]
      for name in ('precision', 'recall', 'f1', 'count')
    ]
    np.testing.assert_allclose(figures, [part[label] for part in expected])
    assert one['average_precision'] == pytest.approx(
      metrics.average_precision_score(targets[:, label], logits[:, label])
    )
  assert len(said['per_class']) == 4
  record = json.loads((tmp_path / 'r.json').read_text())
  assert record['evaluations'][0]['per_class'] == said['per_class']
  page = (tmp_path / 'r.md').read_text()
  first = said['per_class'][1]
  assert (
    f'| cat | {first["average_precision"]:.2%} | {first["precision"]:.2%} |'
    f' {first["recall"]:.2%} | {first["f1"]:.4f} | {first["count"]} |'
  ) in page
  assert '| multi label |' in page
  assert f'| {said["mean_average_precision"]:.2%} |' in page
