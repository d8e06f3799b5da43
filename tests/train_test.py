"""The steps and the loop, on the real images that come with the code."""

import functools
import json

import jax
import numpy as np
import pytest

import train
from benchmarks.chaos.results import read_result
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.run import create_run
from coatnet_jax.training import lease, reporting, stop_signal
from coatnet_jax.training.train_step import train_step
from coatnet_jax.training.training_log import DivergenceError
from tests.quick_configs import create_quick_config
from tests.train_batches import read_train_batches

pytestmark = pytest.mark.usefixtures('tiny_variant')


def short_config(**training):
  config = create_quick_config()
  config.training.update(training)
  return config


def first_batch(run):
  (batch,) = read_train_batches(run, 1)
  return batch


def test_fits_a_fixed_batch_of_32():
  config = short_config(num_steps=100)
  config.model.stochastic_depth_rate = 0.0
  config.schedule.decay = 'constant'
  config.loss.label_smoothing = 0.0
  run = create_run(config)
  create_state, abstract_state = abstract_train_state(run)
  take_step = train.compile_train_step(run, abstract_state)
  state, batch = create_state(), jax.device_put(first_batch(run))
  losses = []
  for _ in range(100):
    state, metrics = take_step(state, batch)
    losses.append(float(metrics['loss']))
    if losses[-1] < 0.05:
      break
  assert losses[0] > 1.5
  assert min(losses) < 0.05


def test_a_step_changes_every_parameter_and_counts():
  run = create_run(short_config(ema_decay=0.9))
  create_state, _ = abstract_train_state(run)
  state = create_state()
  step = jax.jit(lambda s, b: train_step(s, b, run=run))
  batch = first_batch(run)
  new_state, metrics = step(state, batch)
  assert int(new_state.step) == 1
  assert set(metrics) == {
    'loss',
    'top1',
    'gradient_norm',
    'parameter_norm',
    'learning_rate',
  }
  assert float(metrics['learning_rate']) == pytest.approx(
    float(run.schedule(0)), rel=1e-6
  )
  paths = jax.tree_util.tree_leaves_with_path(new_state.variables)
  before = jax.tree.leaves(state.variables)
  for (path, after), leaf in zip(paths, before, strict=True):
    assert np.abs(np.asarray(after - leaf)).max() > 0, path
  # The same state, batch and key give the same step; another step does not.
  again, _ = step(state, batch)
  jax.tree.map(np.testing.assert_array_equal, again.params, new_state.params)


@functools.cache
def evaluate_untrained(batch_size):
  config = short_config()
  config.evaluation.global_batch_size = batch_size
  run = create_run(config)
  create_state, _ = abstract_train_state(run)
  return train.evaluate_run(run, create_state())


@pytest.mark.parametrize('batch_size', [7, 200, 1000])
def test_evaluation_counts_every_example_once(batch_size):
  metrics, expected = evaluate_untrained(batch_size), evaluate_untrained(64)
  assert metrics['count'] == expected['count'] == 200
  # Untrained, the model's answer does not depend on the batch.
  assert metrics['top1'] == expected['top1']
  assert metrics['loss'] == pytest.approx(expected['loss'], rel=1e-5)


def test_runs_writes_and_goes_on(tmp_path, capsys):
  workdir = str(tmp_path / 'run')
  config = short_config(num_steps=4, ema_decay=0.5)
  config.checkpoint.every_steps = 1
  config.checkpoint.max_to_keep = 2
  config.logging.every_steps = 2
  state = train.train_and_evaluate(config, workdir)
  assert int(state.step) == 4
  printed = capsys.readouterr().out
  for text in (
    'tiny, ',
    'fashion_mnist_12k/1.0.0, train[:1000]: 1,000 images, 10 classes',
    '4 steps of 32 images',
    'step 4/4 (100%)  loss ',
    ' images/s  data wait ',
    '%  0 s left',
    'on 200 images',
    f'python -m tools.predict --checkpoint={workdir}',
  ):
    assert text in printed

  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert summary['steps'] == summary['final']['step'] == 4
  assert summary['images_seen'] == 4 * 32
  assert summary['final']['count'] == 200
  assert summary['best']['top1'] >= summary['final']['top1']
  assert summary['images_per_second'] > 0
  files = {path.name for path in (tmp_path / 'run').iterdir()}
  assert {'config.json', 'checkpoints', 'train.log'} <= files
  assert any(name.startswith('events.out.tfevents') for name in files)
  steps = sorted(int(p.name) for p in (tmp_path / 'run/checkpoints').iterdir())
  assert steps == [3, 4]

  # The same command again has nothing left to do, and says the same.
  again = train.train_and_evaluate(config, workdir)
  jax.tree.map(
    np.testing.assert_array_equal, again.eval_variables, state.eval_variables
  )
  assert 'step 4/4' not in capsys.readouterr().out
  assert json.loads((tmp_path / 'run/summary.json').read_text()) == summary


def _saved_steps(workdir):
  return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())


def test_keeps_the_newest_and_the_best(tmp_path, monkeypatch):
  top1 = iter([0.5, 0.25, 0.125])
  evaluate_run = train.evaluate_run
  monkeypatch.setattr(
    train,
    'evaluate_run',
    lambda *args: {**evaluate_run(*args), 'top1': next(top1)},
  )
  config = short_config(num_steps=6)
  config.checkpoint.every_seconds = 0.0
  config.checkpoint.max_to_keep = 1
  config.evaluation.every_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  assert _saved_steps(tmp_path) == [2, 6]
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert (summary['best']['step'], summary['best']['top1']) == (2, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(('seconds', 'expected'), [(1e-3, [1, 2]), (0.0, [2])])
def test_saves_by_the_clock(tmp_path, seconds, expected):
  config = short_config(num_steps=2)
  config.checkpoint.every_seconds = seconds
  config.logging.every_steps = 1
  train.train_and_evaluate(config, str(tmp_path))
  assert _saved_steps(tmp_path) == expected


@pytest.mark.slow
def test_a_profile_is_written_on_request(tmp_path):
  config = short_config(num_steps=5)
  config.logging.profile_at_step = 2
  config.logging.profile_num_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  assert list(tmp_path.glob('plugins/profile/*/*.xplane.pb'))


def _events(workdir):
  from tensorboard.backend.event_processing import event_accumulator

  events = event_accumulator.EventAccumulator(
    str(workdir), size_guidance={'tensors': 0}
  )
  events.Reload()
  return events


@pytest.mark.slow
@pytest.mark.rotating
def test_tensorboard_has_scalars_and_a_grid_of_pictures(tmp_path):
  from tensorboard.util import tensor_util

  config = short_config(num_steps=2)
  config.logging.every_steps = 1
  config.logging.image_grid_size = 9
  train.train_and_evaluate(config, str(tmp_path))
  events = _events(tmp_path)
  tags = set(events.Tags()['tensors'])
  assert {
    'train/loss',
    'train/top1',
    'train/gradient_norm',
    'train/learning_rate',
    'speed/images_per_second',
    'speed/images_per_second_per_device',
    'eval/top1',
    'eval/loss',
    'train/images',
    'eval/confusions',
    'eval/predictions',
  } <= tags
  assert [event.step for event in events.Tensors('train/loss')] == [1, 2]
  image = tensor_util.make_ndarray(
    events.Tensors('train/images')[0].tensor_proto
  )
  assert (int(image[0]), int(image[1])) == (3 * 28, 3 * 28)


def test_a_run_that_diverges_stops_and_is_not_saved(tmp_path, monkeypatch):
  config = short_config(num_steps=6)
  config.checkpoint.every_steps = 1
  config.logging.every_steps = 100
  compile_train_step = train.compile_train_step

  def poisoned(*args):
    take_step = compile_train_step(*args)

    def step(state, batch):
      if int(state.step) == 3:
        state, metrics = take_step(state, batch)
        return state, {**metrics, 'loss': jax.device_put(np.float32(np.nan))}
      return take_step(state, batch)

    return step

  monkeypatch.setattr(train, 'compile_train_step', poisoned)
  monkeypatch.setattr(jax, 'transfer_guard', lambda _: _Nothing())
  with pytest.raises(DivergenceError) as error:
    train.train_and_evaluate(config, str(tmp_path))
  message = str(error.value)
  assert 'diverged at step 4: ' in message
  assert 'nan' in message
  assert 'learning rate 0.00' in message
  steps = {int(path.name) for path in (tmp_path / 'checkpoints').iterdir()}
  assert max(steps) == 3


class _Nothing:
  def __enter__(self):
    return self

  def __exit__(self, *_):
    return None


@pytest.mark.slow
@pytest.mark.rotating
def test_a_learning_rate_that_is_far_too_high_diverges(tmp_path):
  """The same, for real: the first update is too large for float32."""
  config = short_config(num_steps=60)
  config.schedule.peak_learning_rate = 1e38
  config.checkpoint.every_steps = 1
  with pytest.raises(DivergenceError, match=r'at step 1: .*parameter norm inf'):
    train.train_and_evaluate(config, str(tmp_path))
  assert not list((tmp_path / 'checkpoints').iterdir())


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('model.name', 'coatnet_9', "'coatnet_9'; it must be one of the "),
    ('model.dtype', 'half', 'float32, bfloat16'),
    ('model.attention', 'flash', 'auto, reference, xla, pallas, cudnn'),
    ('model.remat', 'some', 'none, expansions, blocks, everything'),
    ('model.batch_norm_group_size', 48, '48; it must divide the 32 images'),
    ('model.attention', 'pallas', 'for TPUs, and this machine has CPUs'),
    ('data.name', 'fashion_mnist_12', r'fashion_mnist_12k'),
    ('data.source', 'web', 'folder'),
    ('preprocessing.image_size', (30, 28), r'divisible by \d+'),
    ('optimizer.name', 'adam', 'adamw'),
    ('schedule.decay', 'step', 'cosine, linear, constant'),
    ('loss.kind', 'hinge', 'softmax, sigmoid'),
    ('checkpoint.best_metric', 'f1', 'top1, top5, loss'),
    ('training.num_steps', 0, 'it must have at least one'),
    ('training.num_epochs', 1.0, 'set the one'),
    ('training.gradient_accumulation_steps', 5, 'multiple of 5'),
    ('training.ema_decay', 1.0, 'ema_decay'),
    ('sharding.fsdp', 2, 'must be the number of devices, 1,'),
    ('logging.every_steps', 0, 'logging.every_steps'),
  ],
)
def test_bad_values_are_refused_before_anything_is_written(
  tmp_path, key, value, message
):
  config = short_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=message):
    train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_unknown_and_missing_keys_are_errors_in_the_first_second(tmp_path):
  for section in ('model', 'data', 'optimizer', 'logging', 'sharding', 'mixup'):
    config = short_config()
    with config.unlocked():
      config[section].colour = 'red'
    with pytest.raises(TypeError, match='colour'):
      train.train_and_evaluate(config, str(tmp_path / 'run'))
    config = short_config()
    with config.unlocked():
      for key in list(config[section]):
        del config[section][key]
    with pytest.raises(TypeError, match='missing'):
      train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def _damage(directory):
  """Cuts every array file of a checkpoint short."""
  files = [p for p in (directory / 'state').rglob('*') if p.is_file()]
  for path in files:
    if path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[:10])


def test_an_incomplete_newest_checkpoint_is_put_aside(tmp_path, capsys):
  config = short_config(num_steps=4)
  config.checkpoint.every_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  good = read_result(tmp_path)
  _damage(tmp_path / 'checkpoints' / '4')
  capsys.readouterr()
  train.train_and_evaluate(config, str(tmp_path))
  printed = capsys.readouterr().out
  assert 'The checkpoint of step 4 is damaged (state/' in printed
  assert 'Resuming from the checkpoint of step 2' in printed
  assert (tmp_path / 'damaged_checkpoints' / '4' / 'state').is_dir()
  assert read_result(tmp_path) == good


def test_an_end_that_is_damaged_and_not_made_again_is_no_end(
  tmp_path, monkeypatch
):
  config = short_config(num_steps=4)
  config.checkpoint.every_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  assert reporting.has_summary(str(tmp_path))
  _damage(tmp_path / 'checkpoints' / '4')
  monkeypatch.setattr(stop_signal.StopSignal, 'is_due', lambda self: True)
  train.train_and_evaluate(config, str(tmp_path))
  assert not reporting.has_summary(str(tmp_path))


def test_a_second_run_in_a_workdir_is_refused(tmp_path):
  config = short_config(num_steps=2)
  train.train_and_evaluate(config, str(tmp_path))
  files = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
  with (
    lease.hold(tmp_path, print),
    pytest.raises(UserError, match=f'The workdir {tmp_path} is in use: '),
  ):
    train.train_and_evaluate(config, str(tmp_path))
  assert files == {path: path.stat().st_mtime for path in tmp_path.rglob('*')}


@pytest.mark.slow
@pytest.mark.rotating
def test_a_half_written_checkpoint_is_named_and_removed(tmp_path, capsys):
  config = short_config(num_steps=4)
  config.checkpoint.every_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  half = tmp_path / 'checkpoints' / '4'
  half.rename(tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp')
  (tmp_path / 'checkpoints/4.orbax-checkpoint-tmp/commit_success.txt').unlink()
  capsys.readouterr()
  train.train_and_evaluate(config, str(tmp_path))
  printed = capsys.readouterr().out
  assert '4.orbax-checkpoint-tmp was not written to its end' in printed
  assert 'Resuming from the checkpoint of step 2' in printed


def test_no_checkpoint_that_can_be_read_is_an_error(tmp_path):
  config = short_config(num_steps=4)
  config.checkpoint.max_to_keep = 1
  train.train_and_evaluate(config, str(tmp_path))
  for path in (tmp_path / 'checkpoints').iterdir():
    _damage(path)
  with pytest.raises(UserError, match='None of the checkpoints in'):
    train.train_and_evaluate(config, str(tmp_path))
  assert (tmp_path / 'checkpoints' / '4').is_dir()


def test_an_evaluation_says_what_was_predicted_of_each_example():
  run = create_run(short_config())
  create_state, _ = abstract_train_state(run)
  state, seen = create_state(), []
  metrics = train.evaluate_run(run, state, observe=seen.append)
  (examples,) = seen
  assert len(examples.labels) == metrics['count'] == 200
  right = examples.predicted == examples.labels
  assert right.mean() == pytest.approx(metrics['top1'])
  classes = [right[examples.labels == label].mean() for label in range(10)]
  assert metrics['mean_class_accuracy'] == pytest.approx(np.mean(classes))
  assert examples.images.shape == (16, 28, 28, 3)
  assert ((examples.confidences >= 0.1) & (examples.confidences <= 1)).all()
