"""A model of several labels, evaluated and reported: the whole way."""

import json

import jax
import numpy as np
import pytest
from sklearn import metrics

import train
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from tests.multi_label_examples import (
  NAMES,
  create_config,
  draw_label_sets,
  paint_labels,
  write_list,
)
from tests.reports.examples import Page
from tools import evaluate, report

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
  config = create_config(pictures, **{'logging.report': True})
  train.train_and_evaluate(config, str(workdir))
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
  assert 'Cannot decode' in err
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


def test_every_number_of_the_report_is_evaluates(workdir, capsys, predicted):
  found = Page((workdir / 'report.html').read_text())
  said, _ = _evaluate(capsys, f'--checkpoint={workdir}')
  for name in (
    *('mean_average_precision', 'micro_f1', 'macro_f1'),
    *('top1', 'top5', 'loss', 'count'),
  ):
    assert found.numbers[name][0] == said[name]
  for row, one in zip(found.tables['classes'][1:], said['per_class']):
    names = ('count', 'average_precision', 'precision', 'recall', 'f1')
    assert [cell[1] for cell in row[1:]] == [one[name] for name in names]
    assert row[0][0] == one['class']
  targets, logits = predicted
  for label in range(4):
    assert found.series['auc'][label] == pytest.approx(
      metrics.roc_auc_score(targets[:, label], logits[:, label])
    )
    assert found.series['ap'][label] == pytest.approx(
      said['per_class'][label]['average_precision']
    )
  shown = ' '.join(found.texts)
  assert 'Mean average precision' in found.texts  # A curve.
  assert '099.png' in shown
  wrong = ((logits >= 0) != targets).any(axis=1).sum()
  assert f'{min(wrong, 24)} of {wrong} images of which a label is' in shown
  assert 'What the model looks at' in shown
  assert 'The maps cannot be made' not in shown
  assert ', is no label' not in shown
  for tool in ('evaluate', 'predict', 'explain', 'report'):
    assert f'python -m tools.{tool} --checkpoint={workdir}' in shown
  text = (workdir / 'report.html').read_text()
  assert '<b>yak' not in text
  assert '&lt;b&gt;yak|' in text


def test_the_report_is_made_again_also_of_other_data(workdir, tmp_path, capsys):
  path = workdir / 'report.html'
  before = Page(path.read_text()).numbers
  assert report.main([f'--checkpoint={workdir}']) == 0
  assert Page(path.read_text()).numbers == before
  # Some of the classes, in another order.
  names = ('owl', 'dog')
  other = write_list(tmp_path / 'other', [[0], [1], [], [0, 1]] * 5, names)
  data = f'--data.data_dir={other}'
  out = tmp_path / 'r.html'
  assert report.main([f'--checkpoint={workdir}', data, f'--out={out}']) == 0
  found = Page(out.read_text())
  capsys.readouterr()
  said, _ = _evaluate(capsys, f'--checkpoint={workdir}', data)
  assert found.numbers['count'][0] == said['count'] == 20
  assert [row[0][0] for row in found.tables['classes'][1:]] == ['dog', 'owl']
  assert found.numbers['macro_f1'][0] == said['macro_f1']
  with pytest.raises(UserError, match='--fewshot and --linear_probe fit a cl'):
    evaluate.main([f'--checkpoint={workdir}', '--linear_probe'])
  both = tmp_path / 'both.html'
  steps = [str(workdir / 'checkpoints' / step) for step in ('6', '12')]
  assert report.main(['--checkpoint', *steps, f'--out={both}']) == 0
  numbers = Page(both.read_text()).numbers
  assert 'mean_average_precision_deviation' in numbers
