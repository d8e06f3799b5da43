"""The report of a real run: every number in it, and those of several runs."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from sklearn import metrics

from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.data.augmentation import crop_for_evaluation
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.errors import UserError
from tests.reports.examples import Page
from tools import evaluate, report


def _report(out, *checkpoints):
  assert report.main([*_name(checkpoints), f'--out={out}']) == 0
  return Page(out.read_text())


def _name(checkpoints):
  return ['--checkpoint', *map(str, checkpoints)]


@pytest.fixture(scope='module')
def predicted(workdir, eval_source):
  """Returns labels, and probabilities [n, 10] by the model alone."""
  trained = load_trained_model(workdir)
  preprocessing = trained.preprocessing
  images, labels = zip(
    *(decode_example(eval_source, i) for i in range(len(eval_source)))
  )
  images = np.stack([crop_for_evaluation(i, preprocessing) for i in images])
  pixels = images.astype(np.float32) / 255
  pixels = (pixels - preprocessing.mean) / preprocessing.std
  logits = jax.jit(
    lambda x: trained.model.apply(trained.variables, x, train=False)
  )(pixels.astype(np.float32))
  logits = np.asarray(logits, np.float64)
  scores = np.exp(logits - logits.max(axis=1, keepdims=True))
  return np.array(labels), scores / scores.sum(axis=1, keepdims=True)


@pytest.fixture(scope='module')
def page(workdir, tmp_path_factory):
  """Returns what the report of the run says."""
  return _report(tmp_path_factory.mktemp('report') / 'report.html', workdir)


def test_every_number_is_evaluates_and_scikit_learns(
  workdir, page, predicted, tmp_path, capsys
):
  found = page
  evaluate.main(
    [f'--checkpoint={workdir}', '--json', f'--results={tmp_path}/r']
  )
  said = json.loads(capsys.readouterr().out)
  for name in (
    *('top1', 'top5', 'loss', 'calibration_error', 'mean_class_accuracy'),
    'count',
  ):
    assert found.numbers[name][0] == said[name]
  for name in ('top1', 'top5', 'mean_class_accuracy'):
    assert found.numbers[name][1] == f'{said[name]:.2%}'
  for name in ('loss', 'calibration_error'):
    assert found.numbers[name][1] == f'{said[name]:.4f}'

  labels, scores = predicted
  answers, every = scores.argmax(axis=1), range(10)
  assert found.numbers['top1'][0] == metrics.accuracy_score(labels, answers)
  assert found.numbers['top5'][0] == pytest.approx(
    metrics.top_k_accuracy_score(labels, scores, k=5, labels=every)
  )
  assert found.numbers['loss'][0] == pytest.approx(
    metrics.log_loss(labels, scores, labels=every), rel=1e-4
  )
  assert found.numbers['mean_class_accuracy'][0] == pytest.approx(
    metrics.balanced_accuracy_score(labels, answers)
  )
  assert found.numbers['macro_f1'][0] == pytest.approx(
    metrics.f1_score(labels, answers, labels=np.unique(labels), average='macro')
  )
  _check_classes(found, labels, answers)
  _check_bins(found, labels, scores)
  for number in every:
    if 0 < (labels == number).sum() < len(labels):
      auc, ap = found.series['auc'].pop(0), found.series['ap'].pop(0)
      is_class = labels == number
      assert auc == pytest.approx(
        metrics.roc_auc_score(is_class, scores[:, number]), abs=1e-6
      )
      assert ap == pytest.approx(
        metrics.average_precision_score(is_class, scores[:, number]), abs=1e-6
      )
  assert found.series['auc'] == found.series['ap'] == []


def _check_classes(found, labels, answers):
  every = range(10)
  expected = metrics.precision_recall_fscore_support(
    labels, answers, labels=every, zero_division=np.nan
  )
  precision, recall, f1, support = expected
  table = found.tables['classes'][1:]
  assert len(table) == 10
  for number, row in enumerate(table):
    cells = [np.nan if cell[1] is None else cell[1] for cell in row[1:]]
    np.testing.assert_allclose(
      cells, [support[number], precision[number], recall[number], f1[number]]
    )
    shown = row[3][0].split('%')[0]
    assert shown == (
      '–' if not support[number] else f'{recall[number]:.1%}'[:-1]
    )
  matrix = [[cell[1] for cell in row[1:]] for row in found.tables['matrix'][1:]]
  np.testing.assert_array_equal(
    matrix, metrics.confusion_matrix(labels, answers, labels=every)
  )


def _check_bins(found, labels, scores):
  """Compares the reliability diagram's numbers with plain sums."""
  confidences, hits = scores.max(axis=1), scores.argmax(axis=1) == labels
  for number, row in enumerate(found.tables['bins'][1:]):
    inside = (confidences > number / 15) & (confidences <= (number + 1) / 15)
    assert row[1][1] == inside.sum()
    if inside.any():
      assert row[2][1] == pytest.approx(confidences[inside].mean(), abs=1e-6)
      assert row[3][1] == pytest.approx(hits[inside].mean())


def test_a_page_says_what_the_run_was_and_what_to_do(workdir, page, best):
  found = page
  shown = ' '.join(found.texts)
  assert f'step {best["step"]}' in shown
  assert 'fashion_mnist_12k/1.0.0, train[:2000]: 2,000 images' in shown
  assert 'fashion_mnist_12k/1.0.0, test[:100]: 100 images' in shown
  changes = {
    row[0][0]: [c[0] for c in row[1:]] for row in found.tables['changes']
  }
  assert changes['model.name'] == ['"coatnet_0"', '"coatnet_mini"']
  assert changes['preprocessing.image_size'] == ['[224, 224]', '[28, 28]']
  assert 'model.dtype' not in changes
  for name in ('Loss', 'Accuracy', 'Learning rate', 'Speed'):
    assert name in found.texts
  quoted = f"'{workdir}'"
  for tool in ('evaluate', 'predict', 'explain', 'export_weights', 'report'):
    assert f'python -m tools.{tool} --checkpoint={quoted}' in shown
  assert f'python main.py --config=CONFIG --workdir={quoted}' in shown
  pictures = [v for t, n, v in found.attributes if (t, n) == ('img', 'src')]
  wrong = round((1 - best['top1']) * 100)
  # Three are of each mistake and each right one that has maps.
  right = min(2, round(100 * best['top1']))
  assert len(pictures) == min(24, wrong) + 3 * (min(2, wrong) + right)


@pytest.mark.slow
@pytest.mark.rotating
def test_runs_side_by_side_have_a_mean_and_a_spread(workdir, tmp_path, capsys):
  steps = [workdir / 'checkpoints' / step for step in ('6', '12')]
  found = _report(tmp_path / 'both.html', *steps)
  capsys.readouterr()
  values = []
  for step in steps:
    evaluate.main([f'--checkpoint={step}', '--json'])
    values.append(json.loads(capsys.readouterr().out))
  for name in ('top1', 'loss', 'calibration_error'):
    numbers = [value[name] for value in values]
    for place, number in enumerate(numbers, 1):
      assert found.numbers[f'run{place}_{name}'][0] == number
    for word, expected in (
      ('mean', np.mean(numbers)),
      ('deviation', np.std(numbers, ddof=1)),
      ('least', min(numbers)),
      ('largest', max(numbers)),
    ):
      assert found.numbers[f'{name}_{word}'][0] == pytest.approx(expected)
  assert 'None: all configs are the same.' in found.texts
  assert len(found.tables['classes']) == 11


def test_a_damaged_checkpoint_is_named_and_another_one_used(
  workdir, best, tmp_path, capsys
):
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  other = 18 - best['step']  # The run has 6 and 12.
  damaged = copy / 'checkpoints' / str(best['step'])
  for path in damaged.glob('state/ocdbt.process_0/d/*'):
    os.truncate(path, path.stat().st_size // 2)
  assert report.main([f'--checkpoint={copy}']) == 0
  assert capsys.readouterr().out == f'report      {copy}/report.html\n'
  shown = ' '.join(Page((copy / 'report.html').read_text()).texts)
  assert re.search(rf'{best["step"]} cannot be read: .* Step {other} is', shown)
  assert f'The checkpoint of step {other} in' in shown


def test_a_run_without_evaluations_or_curves(workdir, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(workdir / 'checkpoints' / '6', copy / 'checkpoints' / '6')
  shutil.rmtree(copy / 'checkpoints' / '6' / 'metrics')
  found = _report(tmp_path / 'report.html', copy)
  assert found.numbers['count'][0] == 100
  assert any('no files for TensorBoard' in text for text in found.texts)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['{run}', '{step}'], 'Several runs are compared: --out=FILE.html says'),
    (['{run}', '{run}/../{run.name}'], 'two of these are one checkpoint'),
    (['{run}/checkpoints/7'], 'does not exist: give the workdir of a run'),
    (['{run}', '--out={run}/config.json'], 'is there, and is no report'),
    (['{run}', '--out={run}'], 'is there, and is no report of a run'),
    (['{run}', '--batch_size=0'], '--batch_size is 0; it must be'),
    (['{run}', '--data.eval_split=test'], 'The data are not those of the'),
    (['{run}', '--data.name=a,b', '--out={step}.html'], 'is of one data set'),
    (['{step}'], 'is in no workdir: --out=FILE.html says'),
  ],
)
def test_what_cannot_be_is_said(workdir, tmp_path, arguments, message):
  step = tmp_path / 'step'
  shutil.copytree(workdir / 'checkpoints' / '6', step)
  words = [word.format(run=workdir, step=step) for word in arguments]
  with pytest.raises(UserError, match=re.escape(message)):
    report.main(['--checkpoint', *words])
  assert not (workdir / 'report.html').exists()


def test_where_it_cannot_be_written_it_says_so_first(
  workdir, tmp_path, monkeypatch
):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(report, 'create_content', pytest.fail)
  with pytest.raises(UserError, match=r'^--out: .*/file cannot be made a dir'):
    report.main([f'--checkpoint={workdir}', f'--out={tmp_path}/file/r.html'])


@pytest.mark.slow
@pytest.mark.rotating
def test_other_data_may_be_named(workdir, tmp_path):
  out = tmp_path / 'new' / 'report.html'
  words = [
    f'--checkpoint={workdir}',
    '--data.eval_split=test[100:140]',
    '--data.train_split=train[:30]',  # Not what it was trained on.
  ]
  assert report.main([*words, f'--out={out}', '--batch_size=40']) == 0
  found = Page(out.read_text())
  assert found.numbers['count'][0] == 40
  shown = ' '.join(found.texts)
  assert 'test[100:140]: 40 images' in shown
  assert 'train[:2000]: 2,000 images' in shown
  assert 'train[:30]' not in shown
