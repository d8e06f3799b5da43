"""Runs that are killed, on folds, with balanced sampling and an early stop.

A run that was killed comes to the same end, bit for bit.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import numpy as np
import optax
import pytest

import train
from benchmarks.chaos.results import read_result
from coatnet_jax.data.identity import compute_fingerprint
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.average_precision import (
  compute_mean_average_precision,
)
from coatnet_jax.inference import compute_logits
from coatnet_jax.run import create_run
from coatnet_jax.run_batches import read_eval_batches
from tests.data.preparation.archive_examples import jpeg
from tests.main_process import start_main
from tests.quick_configs import create_quick_config

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def labels(tmp_path):
  """A list of 60 pictures of three classes, of ten patients."""
  lines = ['file,class,patient']
  for number in range(60):
    name = 'cat' if number % 10 < 6 else 'dog' if number % 10 < 9 else 'owl'
    path = tmp_path / 'pictures' / f'{number}.jpg'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(jpeg(number, 32))
    lines.append(f'pictures/{number}.jpg,{name},{number // 10}')
  path = tmp_path / 'labels.csv'
  path.write_text('\n'.join(lines))
  return path


def _changes(labels, **changes):
  return {
    'data.source': 'folder',
    'data.data_dir': str(labels),
    'data.train_split': 'train',
    'data.num_folds': 3,
    'data.fold': 1,
    'data.sampling': 'balanced',
    'loss.class_weights': 'inverse',
    'training.num_steps': 40,
    'training.global_batch_size': 8,
    'training.early_stopping_evaluations': 3,
    'evaluation.every_epochs': 0.0,
    'evaluation.every_steps': 2,
    'evaluation.global_batch_size': 8,
    'checkpoint.every_steps': 1,
    **changes,
  }


class _KilledError(BaseException):
  """Ends a run at once, as a signal would that nothing handles."""


@contextlib.contextmanager
def _killed_at(monkeypatch, function, call):
  """Context in which a run dies at a call of one of its functions."""
  calls = 0
  original = getattr(train, function)

  def count(*args, **options):
    nonlocal calls
    calls += 1
    if calls == call:
      raise _KilledError
    return original(*args, **options)

  with monkeypatch.context() as patch, contextlib.suppress(_KilledError):
    patch.setattr(train, function, count)
    yield
  assert calls == call


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.usefixtures('tiny_variant')
def test_a_run_that_broke_off_anywhere_comes_to_the_same_end(
  labels, tmp_path, monkeypatch, capsys
):
  config = create_quick_config(_changes(labels))
  train.train_and_evaluate(config, str(tmp_path / 'whole'))
  expected = read_result(tmp_path / 'whole')
  # It does stop early, and not at once.
  assert 6 < expected['steps'] < 40
  assert 'early stop  top1 has not become better' in capsys.readouterr().out
  last = expected['steps'] // 2
  # While it evaluates: the first time, and the last.
  for number in (1, last):
    workdir = tmp_path / f'evaluation_{number}'
    with _killed_at(monkeypatch, 'evaluate_run', number):
      train.train_and_evaluate(config, str(workdir))
    train.train_and_evaluate(config, str(workdir))
    assert read_result(workdir) == expected, number
  # And again and again.
  workdir = tmp_path / 'often'
  for _ in range(last - 1):
    with _killed_at(monkeypatch, 'evaluate_run', 2):
      train.train_and_evaluate(config, str(workdir))
  train.train_and_evaluate(config, str(workdir))
  assert read_result(workdir) == expected
  # More patience goes on where it stopped.
  config.training.early_stopping_evaluations = 0
  train.train_and_evaluate(config, str(workdir))
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['steps'] == 40
  assert 'stopped_early' not in summary


@pytest.mark.slow
@pytest.mark.rotating
def test_a_run_that_was_killed_comes_to_the_same_end(labels, tmp_path):
  """By the signal that no program hears, from outside, three times."""
  words = [
    f'--config.{key}={value}'
    for key, value in {
      **_changes(labels),
      'model.name': 'coatnet_mini',
      'schedule.warmup_epochs': 0.0,
      'schedule.peak_learning_rate': 1e-4,
    }.items()
  ]

  def start(workdir):
    return start_main(
      '--config=configs/quickstart.py',
      *words,
      f'--workdir={workdir}',
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )

  with start(tmp_path / 'whole') as process:
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
  expected = read_result(tmp_path / 'whole')
  assert expected['steps'] < 40
  for step in (1, 3, 4):
    with start(tmp_path / 'killed') as process:
      for line in process.stdout:
        if f'step {step * 2:,}' in line and 'on 20 images' in line:
          break
      os.killpg(process.pid, signal.SIGKILL)
  with start(tmp_path / 'killed') as process:
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
  assert 'Resuming from the checkpoint of step' in said
  assert read_result(tmp_path / 'killed') == expected


@pytest.mark.slow
@pytest.mark.usefixtures('tiny_variant')
def test_another_fold_is_another_run_and_other_data(labels, tmp_path):
  runs = [
    create_run(create_quick_config(_changes(labels, **{'data.fold': fold})))
    for fold in range(3)
  ]
  identities = {
    compute_fingerprint(source)
    for run in runs
    for source in (run.train_source, run.eval_source)
  }
  assert len(identities) == 6
  config = create_quick_config(_changes(labels, **{'training.num_steps': 2}))
  workdir = str(tmp_path / 'run')
  train.train_and_evaluate(config, workdir)
  config.data.fold = 2
  with pytest.raises(UserError, match='holds a run on other data: '):
    train.train_and_evaluate(config, workdir)
  config.data.fold = 1
  config.training.num_steps = 3
  text = labels.read_text()
  labels.write_text(text.replace('0.jpg,cat', '0.jpg,dog'))
  with pytest.raises(UserError, match='holds a run on other data: '):
    train.train_and_evaluate(config, workdir)


@pytest.mark.usefixtures('tiny_variant')
@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'data.fold': 3}, 'fold is 3; it must be in'),
    ({'data.num_folds': 50}, 'no group is divided; it takes at least 50'),
    ({'training.global_batch_size': 64}, 'global_batch_size is 64, and there'),
    (
      {'data.num_folds': 0, 'data.fold': 0, 'data.group_pattern': r'^\d'},
      'has a column that names groups',
    ),
  ],
)
def test_nothing_is_written_for_what_cannot_be(
  labels, tmp_path, changes, message
):
  config = create_quick_config(_changes(labels, **changes))
  with pytest.raises(UserError, match=message):
    train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.fixture
def several(labels):
  """The same pictures, of which some have two labels, and some none."""
  names = [['cat'], ['dog', 'owl'], ['cat', 'dog'], [], ['owl']] * 12
  path = labels.with_name('several.jsonl')
  path.write_text(
    '\n'.join(
      json.dumps({'file': f'pictures/{number}.jpg', 'labels': of_one})
      for number, of_one in enumerate(names)
    )
  )
  return path


def _several_changes(several, **changes):
  return _changes(
    several,
    **{
      'data.sampling': 'natural',
      'loss.class_weights': 'none',
      'loss.kind': 'sigmoid',
      'checkpoint.best_metric': 'mean_average_precision',
      'training.num_steps': 4,
      **changes,
    },
  )


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.usefixtures('tiny_variant')
def test_pictures_of_several_labels_are_trained_on(several, tmp_path, capsys):
  changes = {'logging.report': True}
  config = create_quick_config(_several_changes(several, **changes))
  state = train.train_and_evaluate(config, str(tmp_path / 'run'))
  printed = capsys.readouterr().out
  assert 'mean average precision' in printed
  assert f'report      {tmp_path}/run/report.html\n' in printed
  assert f'python -m tools.evaluate --checkpoint={tmp_path}/run\n' in printed
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  run = create_run(config)
  images, targets = [], []
  for batch in read_eval_batches(run):
    images.append(batch['image'][batch['mask']])
    targets.append(batch['label'][batch['mask']])
  logits = compute_logits(
    state.eval_variables,
    np.concatenate(images),
    model=run.model,
    preprocessing=run.preprocessing,
  )
  targets = np.concatenate(targets)
  assert targets.shape == (20, 3)
  expected = compute_mean_average_precision(np.asarray(logits), targets)
  final = summary['final']
  assert final['mean_average_precision'] == pytest.approx(expected, abs=1e-6)
  first = targets[np.arange(20), np.asarray(logits).argmax(1)]
  assert final['top1'] == pytest.approx(first.mean())
  losses = optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)
  assert final['loss'] == pytest.approx(float(losses.mean()), rel=1e-4)


@pytest.mark.usefixtures('tiny_variant')
@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'loss.kind': 'softmax'}, "loss.kind is 'softmax'; it must be 'sigmoid'"),
    ({'data.sampling': 'balanced'}, "sampling is 'balanced'; it must be 'nat"),
    ({'loss.class_weights': 'inverse'}, "weights is 'inverse'; it must be 'no"),
  ],
)
def test_what_does_not_go_with_several_labels_is_said(
  several, changes, message
):
  with pytest.raises(UserError, match=message):
    create_run(create_quick_config(_several_changes(several, **changes)))


@pytest.mark.usefixtures('tiny_variant')
def test_several_labels_have_no_mean_class_accuracy(several):
  changes = {'checkpoint.best_metric': 'mean_class_accuracy'}
  with pytest.raises(UserError, match='loss or mean_average_precision'):
    create_run(create_quick_config(_several_changes(several, **changes)))


@pytest.mark.usefixtures('tiny_variant')
def test_one_label_has_no_mean_average_precision(labels):
  changes = {'checkpoint.best_metric': 'mean_average_precision'}
  with pytest.raises(UserError, match='which is not for images of one label'):
    create_run(create_quick_config(_changes(labels, **changes)))
