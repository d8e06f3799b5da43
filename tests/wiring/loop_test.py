"""`config.evaluation`, `checkpoint`, `logging`: what the loop does, when."""

import json
import time
import types
from unittest import mock

import jax
import numpy as np
import pytest

import train
from coatnet_jax.checkpoints import saving
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.reports import content, page
from coatnet_jax.step_compilation import jit_train_step
from coatnet_jax.tpu_compiler import compiled_step
from coatnet_jax.training import curves
from tests.wiring import runs
from tests.wiring.pictures import Pictures, level
from tests.wiring.registry import proves


def _loop(**changes):
  changes = {name.replace('__', '.'): v for name, v in changes.items()}
  source = Pictures([level(number) for number in range(16)])
  changes = {'training.num_steps': 7, **changes}
  return runs.record_loop(runs.create_run(changes, source=source))


@proves('training.global_batch_size')
def test_a_step_has_so_many_pictures():
  for size in (4, 8, 16):
    recorded = _loop(
      training__global_batch_size=size,
      training__num_steps=0,
      training__num_epochs=2.0,
    )
    assert {len(images) for images in recorded.images} == {size}
    assert len(recorded.images) == 32 // size


@proves('evaluation.every_steps', 'evaluation.every_epochs')
def test_evaluation_comes_every_so_many_steps_or_epochs():
  assert _loop().evaluated == [7]
  assert _loop(evaluation__every_steps=2).evaluated == [2, 4, 6, 7]
  assert _loop(evaluation__every_steps=3).evaluated == [3, 6, 7]
  # Two steps in an epoch.
  assert _loop(evaluation__every_epochs=1.0).evaluated == [2, 4, 6, 7]
  assert _loop(evaluation__every_epochs=2.5).evaluated == [5, 7]


@proves('evaluation.global_batch_size')
def test_evaluation_reads_everything_once_in_batches_of_the_size():
  for size, count in ((4, 4), (12, 2), (32, 1)):
    recorded = _loop(evaluation__global_batch_size=size)
    batches = recorded.eval_batches
    assert [len(batch['label']) for batch in batches] == [size] * count
    levels = np.concatenate([b['image'][b['mask'], 0, 0, 0] for b in batches])
    assert sorted(levels) == [10 * number for number in range(16)]


@proves('checkpoint.every_steps')
def test_checkpoints_come_every_so_many_steps_and_at_evaluations():
  assert _loop().saved == [7]
  assert _loop(checkpoint__every_steps=2).saved == [2, 4, 6, 7]
  assert _loop(checkpoint__every_steps=3).saved == [3, 6, 7]
  both = _loop(checkpoint__every_steps=3, evaluation__every_steps=2)
  assert both.saved == [2, 3, 4, 6, 7]


class _Writer:
  """Keeps what TensorBoard would be given."""

  def __init__(self):
    self.scalars, self.images = {}, {}

  def write_scalars(self, step, scalars):
    self.scalars.setdefault(step, {}).update(scalars)

  def write_images(self, step, images):
    self.images[step] = images

  def close(self):
    pass


def _train(workdir, changes, evaluations=(), profiler=None):
  """Trains to the end with a network that does nothing.

  Returns:
    `steps` of the checkpoints that are left; `best`, the step that the summary
    calls so; `writer`; `compiled`, whose step was compiled; and `events`,
    the steps that were taken, with the profiler's start and stop between.
  """
  scripted, writer, compiled = iter(evaluations), _Writer(), []
  increment, events = jax.jit(lambda step: step + 1), []
  if profiler:
    profiler.start.side_effect = lambda *_, **__: events.append('start')
    profiler.stop.side_effect = lambda *_, **__: events.append('stop')

  def take_step(state, batch):
    events.append(1 + sum(isinstance(event, int) for event in events))
    step = increment(state.step)
    return state.replace(step=step), {'loss': np.float32(1)}

  def compile_train_step(run, *_):
    compiled.append(run)
    return take_step

  def evaluate_run(run, state, should_stop, observe):
    metrics = {'loss': 1.0, 'top1': 0.5, 'top5': 0.5, 'count': 16}
    return {**metrics, **next(scripted, {})}

  def prepare_train_state(run, workdir):
    _, abstract = abstract_train_state(run)
    return lambda: jax.device_put(runs.create_probe(run)), abstract, []

  def save_checkpoint(manager, *args, save=saving.save_checkpoint, **options):
    save(manager, *args, **options)
    manager.wait_until_finished()
    time.sleep(0.1)

  with (
    mock.patch.object(saving, 'save_checkpoint', save_checkpoint),
    mock.patch.object(train, 'compile_train_step', compile_train_step),
    mock.patch.object(train, 'evaluate_run', evaluate_run),
    mock.patch.object(train, 'prepare_train_state', prepare_train_state),
    mock.patch.object(
      curves, 'create_writer', return_value=writer
    ) as create_writer,
  ):
    train.train_and_evaluate(runs.create_config(changes), str(workdir))
  summary = json.loads((workdir / 'summary.json').read_text())
  return types.SimpleNamespace(
    steps=sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir()),
    best=summary['best']['step'],
    writer=writer,
    create_writer=create_writer,
    compiled=compiled,
    events=events,
  )


@proves('checkpoint.best_metric', 'checkpoint.max_to_keep')
def test_the_best_by_the_metric_is_kept_beside_the_newest(tmp_path):
  # Each is best at a step of its own.
  evaluations = (
    {'top1': 0.4, 'top5': 0.5, 'loss': 1.2},
    {'top1': 0.1, 'top5': 0.9, 'loss': 2.0},
    {'top1': 0.2, 'top5': 0.6, 'loss': 0.8},
    {'top1': 0.3, 'top5': 0.7, 'loss': 1.9},
    {'top1': 0.2, 'top5': 0.8, 'loss': 1.5},
  )
  for metric, best, newest in (
    ('top1', 1, 1),
    ('top5', 2, 2),
    ('loss', 3, 1),
  ):
    trained = _train(
      tmp_path / metric,
      {
        'training.num_steps': 5,
        'evaluation.every_steps': 1,
        'checkpoint.best_metric': metric,
        'checkpoint.max_to_keep': newest,
      },
      evaluations,
    )
    assert trained.best == best
    assert trained.steps == [best, *range(6 - newest, 6)]


@proves('training.early_stopping_evaluations')
def test_a_run_ends_when_evaluations_get_no_better(tmp_path):
  evaluations = [{'top1': value} for value in (0.2, 0.4, 0.3, 0.4, 0.1, 0.5)]
  for patience, last, best in ((0, 6, 6), (1, 3, 2), (2, 4, 2), (4, 6, 6)):
    workdir = tmp_path / str(patience)
    changes = {
      'training.num_steps': 6,
      'evaluation.every_steps': 1,
      'training.early_stopping_evaluations': patience,
    }
    trained = _train(workdir, changes, evaluations)
    assert (trained.steps[-1], len(trained.events)) == (last, last)
    assert trained.best in (best, last)
    summary = json.loads((workdir / 'summary.json').read_text())
    assert ('stopped_early' in summary) == (last < 6)
    # The same command again has nothing left to do.
    again = _train(workdir, changes, evaluations[last:])
    assert (again.events, again.compiled) == ([], [])
    assert json.loads((workdir / 'summary.json').read_text()) == summary
    if last < 6:
      # Longer, it would stop at once; with more patience it goes on.
      longer = changes | {'training.num_steps': 8}
      with pytest.raises(UserError, match='stopped early, so another length'):
        _train(workdir, longer)
      longer |= {'training.early_stopping_evaluations': 0}
      assert _train(workdir, longer, evaluations[last:] * 3).steps[-1] == 8


@proves('checkpoint.every_seconds')
def test_checkpoints_come_when_so_many_seconds_have_passed(tmp_path):
  # Counted from the row of metrics after a checkpoint.
  for seconds, expected in ((1e-3, [1, 3, 5]), (0.0, [5]), (3600.0, [1, 5])):
    trained = _train(
      tmp_path / str(seconds),
      {
        'training.num_steps': 5,
        'logging.every_steps': 1,
        'checkpoint.every_seconds': seconds,
        'checkpoint.max_to_keep': 9,
      },
    )
    assert trained.steps == expected


@proves('logging.every_steps', 'logging.image_grid_size')
def test_rows_and_pictures_are_as_many_as_they_are_to_be(tmp_path):
  for every, size, rows, side in ((2, 4, [2, 4, 5], 2), (3, 1, [3, 5], 1)):
    writer = _train(
      tmp_path / str(every),
      {
        'training.num_steps': 5,
        'logging.every_steps': every,
        'logging.image_grid_size': size,
      },
    ).writer
    assert [k for k, v in writer.scalars.items() if 'train/loss' in v] == rows
    grid = writer.images[1]['train/images']
    assert grid.shape == (1, 8 * side, 8 * side, 3)


@proves('logging.writers')
def test_curves_are_written_to_what_is_named(tmp_path):
  for writers in ((), ('csv',), ('tensorboard', 'csv')):
    trained = _train(
      tmp_path / str(len(writers)),
      {'training.num_steps': 1, 'logging.writers': writers},
    )
    assert trained.create_writer.call_args.kwargs['writers'] == writers


@proves('logging.profile_at_step', 'logging.profile_num_steps')
def test_so_many_steps_are_profiled_from_the_step_on(tmp_path):
  for first, count in ((0, 5), (2, 3), (4, 1)):
    changes = {
      'training.num_steps': 8,
      'logging.profile_at_step': first,
      'logging.profile_num_steps': count,
    }
    with mock.patch('clu.periodic_actions.profiler') as profiler:
      events = _train(tmp_path / str(first), changes, profiler=profiler).events
    if not first:
      assert events == list(range(1, 9))
    else:
      assert events.index('start') == first
      assert events.index('stop') - events.index('start') == count + 1


@proves('logging.report')
def test_a_finished_run_has_a_report_where_it_is_to_have_one(tmp_path):
  for is_wanted in (True, False):
    workdir = tmp_path / str(is_wanted)
    with (
      mock.patch.object(content, 'create_content'),
      mock.patch.object(page, 'format_page', return_value='page'),
    ):
      _train(workdir, {'logging.report': is_wanted})
    assert (workdir / 'report.html').exists() == is_wanted


@proves('init_from')
def test_a_run_starts_from_the_checkpoint(tmp_path):
  _train(tmp_path / 'first', {})
  probe = runs.create_probe(runs.create_run())
  for init_from, is_probe in (('', False), (str(tmp_path / 'first'), True)):
    a_run = runs.create_run({'init_from': init_from})
    create_state, _, _ = train.prepare_train_state(
      a_run, str(tmp_path / 'second')
    )
    state = jax.device_get(create_state().replace(key=None))
    same = jax.tree.map(
      lambda one, other: (one == other).all(), state.params, probe.params
    )
    assert all(jax.tree.leaves(same)) == is_probe
    assert int(state.step) == 0


@proves('compiled_train_step')
def test_a_step_that_was_compiled_is_loaded(tmp_path):
  path = str(tmp_path / 'step')
  changes = {'compiled_train_step': path}
  assert not runs.create_run().compiled_train_step
  (a_run,) = _train(tmp_path / 'run', changes).compiled
  _, abstract = abstract_train_state(a_run)
  lowered = jit_train_step(a_run, abstract).lower(
    abstract, a_run.abstract_batch
  )
  with mock.patch.object(
    compiled_step.serialize_executable,
    'deserialize_and_load',
    return_value='loaded',
  ):
    (tmp_path / 'step').write_bytes(_described(lowered, a_run.mesh))
    lines = []
    step = train.compile_train_step(a_run, abstract, lines.append)
  assert (step, lines) == ('loaded', [f'Loaded {path}; nothing to compile.'])


def _described(lowered, mesh):
  facts = compiled_step.identify_program(lowered, mesh)
  return compiled_step._FIRST_LINE + json.dumps(facts).encode() + b'\n'
