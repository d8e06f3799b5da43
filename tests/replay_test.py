"""A step that is taken again, and where it is said to stop being finite."""

import dataclasses
import json
import math
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import train
from coatnet_jax.errors import UserError
from coatnet_jax.replay import batches, examination
from coatnet_jax.run import create_run
from coatnet_jax.training.training_log import DivergenceError
from tests.quick_configs import create_quick_config
from tests.train_batches import read_train_batches
from tools import replay as tool

pytestmark = pytest.mark.usefixtures('tiny_variant')


def _numbers(name, not_finite=0, norm=1.0):
  return examination.Numbers(
    name=name, not_finite=not_finite, largest=1.0, norm=norm
  )


_METRICS = {
  'gradient_norm': 1.0,
  'learning_rate': 0.5,
  'loss': 2.0,
  'parameter_norm': 3.0,
}
FINITE = examination.Examination(
  step=9,
  checkpoint=6,
  has_kept_batch=True,
  before=(),
  forward=tuple(map(_numbers, ('the images', 's1_block_0/expand', 'head'))),
  statistics=(_numbers('s0_norm/mean'), _numbers('s0_norm/var')),
  loss=2.0,
  gradients=(_numbers('head/kernel'), _numbers('s1_block_0/expand/kernel')),
  after=(),
  metrics=_METRICS,
)
_BROKEN = {
  'before': ('batch_stats/s0_norm/var',),
  'forward': (_numbers('the images'), _numbers('a/b', 3), _numbers('a', 3)),
  'statistics': (_numbers('s0_norm/mean'), _numbers('s0_norm/var', 8)),
  'loss': math.nan,
  'gradients': (_numbers('head'), _numbers('s1', 1), _numbers('s0', 2)),
  'metrics': {**_METRICS, 'gradient_norm': math.inf},
  'after': ('params/s0_norm/bias',),
}
_SAID = {
  'before': 'before the step: batch_stats/s0_norm/var is not finite',
  'forward': 'in the forward pass, in what a/b puts out',
  'statistics': 'in the forward pass, in the statistics s0_norm/var',
  'loss': 'in the loss; the logits are finite',
  'gradients': 'in the backward pass, in the gradient of s1',
  'metrics': (
    'in the norm of the gradients, each of which is finite; the largest is that'
    ' of head/kernel'
  ),
  'after': 'in the update: params/s0_norm/bias is not finite',
}


@pytest.mark.parametrize('first', _BROKEN)
def test_it_begins_where_the_first_is(first):
  names = list(_BROKEN)
  later = names[names.index(first) :]
  broken = {name: _BROKEN[name] for name in later}
  assert dataclasses.replace(FINITE, **broken).find_origin() == _SAID[first]


def test_what_is_finite_begins_nowhere():
  assert FINITE.find_origin() == ''
  norm = {**_METRICS, 'parameter_norm': math.inf}
  assert (
    'new parameters' in dataclasses.replace(FINITE, metrics=norm).find_origin()
  )
  said = list(tool.describe(FINITE, 9))
  assert said[:2] == [
    'step        9, 2 steps after the checkpoint of step 6',
    'batch       kept when the run diverged',
  ]
  assert said[-1] == 'Everything is finite.'
  rows = [line.split() for line in said]
  assert ['s1_block_0', '1', '1', '0'] in rows
  assert ['s0_norm', '0', '0'] in rows


def test_an_earlier_step_than_the_one_asked_for_is_said():
  said = list(tool.describe(dataclasses.replace(FINITE, checkpoint=0), 12))
  assert said[0] == 'An earlier step than 12 is not finite already.'
  assert said[1] == 'step        9, 8 steps after the start of the run'


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([3.0, -4.0, 0.0], (0, 4, 5)),
    ([3e30, 4e30], (0, 4e30, 5e30)),
    ([1.0, math.nan, -math.inf], (2, 1, math.nan)),
    ([0.0, 0.0], (0, 0, 0)),
  ],
)
def test_arrays_are_measured_without_overflowing(values, expected):
  array = jnp.array(values)
  merged = examination._merge(
    jnp.stack([examination._measure(part) for part in (array[:1], array[1:])])
  )
  for measured in (examination._measure(array), merged):
    found = examination._to_numbers('any', np.asarray(measured))
    assert (found.not_finite, found.largest, found.norm) == pytest.approx(
      expected, rel=1e-6, nan_ok=True
    )


def _config(**changes):
  return create_quick_config(
    {
      'training.num_steps': 6,
      'checkpoint.every_steps': 2,
      'checkpoint.max_to_keep': 9,
      'evaluation.every_steps': 6,
      **changes,
    }
  )


def test_a_batch_is_kept_as_the_step_has_it(tmp_path):
  run = create_run(_config())
  assert batches.read_kept_batch(run, str(tmp_path), 3) is None
  batches.keep_batch(run, str(tmp_path), 3)
  kept = batches.read_kept_batch(run, str(tmp_path), 3)
  *_, batch = read_train_batches(run, 3)
  assert set(kept) == {'image', 'label'}
  for name, rows in kept.items():
    np.testing.assert_array_equal(rows, batch[name])
  (path,) = (tmp_path / 'diverged').iterdir()
  content = path.read_bytes()
  for damaged in (b'', content[:-30], content.replace(b'image', b'imags')):
    path.write_bytes(damaged)
    assert batches.read_kept_batch(run, str(tmp_path), 3) is None


@pytest.mark.rotating
@pytest.mark.parametrize(
  'dtype', ['float32', pytest.param('bfloat16', marks=pytest.mark.slow)]
)
def test_a_run_that_diverges_says_where_and_how_to_see_more(tmp_path, dtype):
  # The second step's activations are too large for float32.
  config = _config(
    **{
      'schedule.peak_learning_rate': 1e15,
      'schedule.decay': 'constant',
      'checkpoint.every_steps': 1,
      'model.dtype': dtype,
    }
  )
  with pytest.raises(DivergenceError) as error:
    train.train_and_evaluate(config, str(tmp_path))
  message = str(error.value)
  found = re.fullmatch(
    r'Training diverged at step (\d): gradient norm \S+, learning rate 1e\+15,'
    r' loss \S+, parameter norm \S+, top1 \S+\. It begins in the forward pass,'
    r' in (what s\d_\w+(/\w+)* puts out|the statistics s\d_\S+)\. To take the'
    r' step apart: (python -m tools\.replay \S+ --step=(\d))\. Nothing of it'
    r' was saved; a lower learning rate, .* may help\.',
    message,
  )
  assert found, message
  assert found[1] == found[5]
  step = int(found[1])
  assert found[4].endswith(f'--workdir={tmp_path} --step={step}')
  saved = [int(path.name) for path in (tmp_path / 'checkpoints').iterdir()]
  assert max(saved, default=0) == step - 1
  assert (tmp_path / 'diverged' / f'step_{step}.npz').exists()


@pytest.mark.slow
@pytest.mark.rotating
def test_the_tool_takes_a_step_as_the_run_did(tmp_path, capsys, monkeypatch):
  told = {}
  add = train.training_log.TrainingLog.add

  def record(self, step, metrics):
    told[step] = metrics
    add(self, step, metrics)

  monkeypatch.setattr(train.training_log.TrainingLog, 'add', record)
  config = _config(
    **{
      'training.ema_decay': 0.9,
      'training.gradient_accumulation_steps': 2,
      'model.scan_blocks': True,
      'model.remat': 'blocks',
      'model.stochastic_depth_rate': 0.1,
      'optimizer.frozen': ('^s0_',),
      'mixup.mixup_alpha': 0.5,
    }
  )
  train.train_and_evaluate(config, str(tmp_path))
  before = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
  for step, checkpoint in ((1, 0), (4, 2), (5, 4)):
    capsys.readouterr()
    arguments = [f'--workdir={tmp_path}', f'--step={step}', '--json']
    assert tool.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['step'], found['checkpoint']) == (step, checkpoint)
    assert not found['begins']
    # To the bit: it is the same program, on the same numbers.
    assert found['metrics'] == {k: float(v) for k, v in told[step].items()}
    assert found['loss'] == pytest.approx(found['metrics']['loss'], rel=1e-5)
    names = [module['name'] for module in found['forward']]
    assert names[0] == 'the images'
    assert names.index('s0_conv_0') < names.index('head_logits')
    norm = math.hypot(*(g['norm'] for g in found['gradients']))
    assert norm == pytest.approx(found['metrics']['gradient_norm'], rel=1e-4)
  after = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
  assert after == before
  with pytest.raises(UserError, match='--step is 7; it must be one of the 6'):
    tool.main([f'--workdir={tmp_path}', '--step=7'])
  with pytest.raises(UserError, match=r'has no config\.json'):
    tool.main([f'--workdir={tmp_path / "none"}', '--step=7'])


@pytest.mark.slow
@pytest.mark.rotating
def test_the_kept_batch_is_used_where_the_data_have_changed(tmp_path, capsys):
  config = _config(**{'data.train_split': 'train[:1000]'})
  train.train_and_evaluate(config, str(tmp_path))
  batches.keep_batch(create_run(config), str(tmp_path), 5)

  def take_again():
    capsys.readouterr()
    assert tool.main([f'--workdir={tmp_path}', '--step=5', '--json']) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err

  first, said = take_again()
  assert first['has_kept_batch']
  assert 'have changed' not in said
  path = tmp_path / 'config.json'
  path.write_text(path.read_text().replace('train[:1000]', 'train[50:900]'))
  again, said = take_again()
  assert 'The data have changed since: 1,000 training images before' in said
  assert again['metrics'] == first['metrics']
  (kept,) = (tmp_path / 'diverged').iterdir()
  kept.unlink()
  other, _ = take_again()
  assert not other['has_kept_batch']
  assert other['metrics']['loss'] != first['metrics']['loss']


@pytest.mark.slow
@pytest.mark.rotating
def test_skipped_steps_are_skipped_again_and_survive_resuming(tmp_path):
  """Every update is too large for float32, so every step is skipped."""
  config = _config(
    **{
      'schedule.peak_learning_rate': 3e38,
      'schedule.decay': 'constant',
      'training.skip_nonfinite_steps': 6,
      'training.num_steps': 6,
    }
  )
  state = train.train_and_evaluate(config, str(tmp_path))
  assert int(state.step) == 6
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['skipped_steps'] == 6
  # As if it had been killed before.
  shutil.rmtree(tmp_path / 'checkpoints' / '6')
  (tmp_path / 'summary.json').unlink()
  config.training.skip_nonfinite_steps = 5
  with pytest.raises(DivergenceError, match='5 steps were skipped before'):
    train.train_and_evaluate(config, str(tmp_path))
  config.training.skip_nonfinite_steps = 6
  train.train_and_evaluate(config, str(tmp_path))
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['skipped_steps'] == 6
