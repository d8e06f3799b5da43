"""The check of a GPU, on a CPU: what it finds, and that it needs little."""

import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gpu_check
from benchmarks.gpu import agreement, batches
from benchmarks.versus.task import Task
from coatnet_jax.errors import UserError
from tests.benchmarks.refusing import MISSING, run_refusing

LACKING = (*MISSING, 'ml_collections')


def _tasks(*words):
  options = gpu_check._create_parser().parse_args(list(words))
  return gpu_check.create_tasks(options)


def _time(seconds_by_batch):
  """Returns timings, with a batch that is out of memory where there is none."""
  return [
    batches.Timing(
      Task(
        model='coatnet_0',
        image_size=(224, 224),
        batch_size=batch,
        mode='train',
        dtype='bfloat16',
        device='gpu',
      ),
      *((9.0, seconds) if seconds else ()),
      error='' if seconds else 'out of memory',
    )
    for batch, seconds in seconds_by_batch.items()
  ]


def test_what_is_most_wanted_comes_first():
  tasks = _tasks()
  assert [(t.batch_size, t.model, t.attention) for t in tasks[:5]] == [
    (256, 'coatnet_0_224', 'auto'),
    (256, 'coatnet_0', 'auto'),
    (256, 'coatnet_0_224', 'cudnn'),
    (256, 'coatnet_0', 'cudnn'),
    (128, 'coatnet_0_224', 'auto'),
  ]
  assert {t.batch_size for t in tasks} == {16, 32, 64, 128, 256, 512}
  assert {t.attention for t in _tasks('--device=cpu')} == {'auto'}


@pytest.mark.parametrize('words', ['--models=coatnet_x', '--batches=16,a'])
def test_arguments_that_cannot_be(words):
  with pytest.raises(UserError, match=words.partition('=')[0]):
    _tasks(words)


def test_without_a_gpu_it_says_what_to_do():
  with pytest.raises(UserError, match='says what to install'):
    gpu_check.main([])


def test_cliffs():
  timings = _time({16: 0.1, 128: 0.14, 256: 0.25, 512: 0.7, 1024: None})
  [cliff] = batches.find_cliffs(timings)
  assert cliff.task.batch_size == 512
  rows = batches.format_timings(timings).splitlines()[2:]
  assert [row.split(' | ')[2:] for row in rows[-3:]] == [
    ['256', '250.0', '1,024', '1.00', '9 s', ' |'],
    ['512', '700.0', '731', '0.71', '9 s', 'a cliff |'],
    ['1024', '', '', '', '', 'out of memory |'],
  ]


def test_nothing_is_begun_that_would_not_end_in_time():
  now = 0.0

  def create(task):
    nonlocal now
    now += 40
    if task.batch_size == 512:
      raise MemoryError('too large')
    return types.SimpleNamespace(
      task=task,
      prepare=dict,
      compile=lambda: {'first_call_seconds': 30.0, 'seconds': 0.5},
      turn=lambda steps: {'seconds': 3.0 / steps},
      peak_bytes=lambda: None,
    )

  tasks = [timing.task for timing in _time({512: 1, 256: 1, 128: 1})]
  found = list(
    batches.time_batches(tasks, 100, clock=lambda: now, create=create)
  )
  assert [(t.seconds, t.error.partition(':')[0]) for t in found] == [
    (None, 'MemoryError'),
    (0.5, ''),
    (None, 'not begun'),
  ]


def test_gradients_next_to_nothing_count_for_little():
  expected = {'a': np.array([1.0, -2.0]), 'b': np.array([1e-9])}
  found = {'a': np.array([1.0, -2.0]), 'b': np.array([2e-9])}
  assert agreement.compare_gradients(found, expected) < 1e-6
  found['a'][0] = 1.1
  assert agreement.compare_gradients(found, expected) == pytest.approx(0.05)


def test_a_gradient_that_is_nan_differs():
  expected = {'a': np.ones(2), 'b': np.ones(2)}
  found = {'a': np.ones(2), 'b': np.array([1.0, np.nan])}
  assert math.isnan(agreement.compare_gradients(found, expected))


def test_attention_whose_last_gradient_is_nan_differs(monkeypatch):
  def attend(q, k, v, bias_table, *, grid, implementation):
    total = bias_table.sum()
    if implementation == 'xla':
      total += jnp.sqrt(0 * total)  # 0, which has no gradient.
    return q + k + v + total.astype(q.dtype)

  monkeypatch.setattr(agreement, 'relative_attention', attend)
  cpu = jax.devices('cpu')[0]
  assert math.isnan(agreement.compare_attention((2, 2), 'xla', cpu))


@pytest.fixture(name='check')
def fixture_check(monkeypatch, tmp_path):
  """Returns a function that runs the command with what it is said to find.

  That returns the exit status and what was in the file of --json before each
  check and each timing.
  """

  def check(*words, gradients=0.0, seconds=0.1):
    path = tmp_path / 'figures.json'
    written = []

    def find(found):
      written.append(json.loads(path.read_text()) if path.exists() else {})
      return found

    def time_batches(tasks, deadline):
      for task in tasks:
        times = (9.0, seconds) if seconds else ()
        error = '' if seconds else 'out of memory'
        yield find(batches.Timing(task, *times, error=error))

    monkeypatch.setattr(gpu_check, 'time_batches', time_batches)
    monkeypatch.setattr(
      gpu_check,
      'compare_with_cpu',
      lambda *_: find({'logits': 0.0, 'gradients': gradients}),
    )
    monkeypatch.setattr(gpu_check, 'compare_attention', lambda *_: find(0.0))
    words = ('--device=cpu', '--batches=64', f'--json={path}', *words)
    status = gpu_check.main(words)
    return status, [*written, json.loads(path.read_text())]

  return check


def test_what_was_found_is_in_the_file_at_once(check):
  status, written = check()
  assert status == 0
  numbers = [
    [len(report.get(key, ())) for key in ('agreements', 'timings')]
    for report in written
  ]
  assert numbers == [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2]]


def test_nan_differs(check, capsys):
  status, written = check('--models=coatnet_0', gradients=float('nan'))
  assert status == 1
  assert 'DIFFER: coatnet_0, float32' in capsys.readouterr().out
  agreements = written[-1]['agreements']
  assert [found['agrees'] for found in agreements] == [False, True]


def test_what_there_is_no_time_to_check_does_not_differ(check, capsys):
  status, written = check('--minutes=1e-9')
  assert status == 0
  assert capsys.readouterr().out.count('not checked: ') == 3
  assert {found['agrees'] for found in written[-1]['agreements']} == {None}


def test_a_model_without_any_time_is_a_fault(check, capsys):
  status, _ = check(seconds=None)
  assert status == 1
  said = 'No train step was timed of coatnet_0_224, coatnet_0.'
  assert said in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures('tiny_variant')
def test_a_difference_is_found(monkeypatch):
  put, scales = jax.device_put, iter([1, 1.001])

  def put_elsewhere(arguments, device):
    scale = next(scales)
    return put(jax.tree.map(lambda x: x * scale, arguments), device)

  monkeypatch.setattr(jax, 'device_put', put_elsewhere)
  cpu = jax.devices('cpu')[0]
  found = agreement.compare_with_cpu('tiny', (32, 32), cpu)
  assert agreement.LOGITS_TOLERANCE < found['logits'] < 0.1
  assert agreement.GRADIENT_TOLERANCE < found['gradients'] < 0.1


def test_it_needs_nothing_that_reads_data_or_configs():
  run_refusing(LACKING, 'import benchmarks.gpu_check')


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.usefixtures('tiny_variant')
def test_the_whole_check_on_a_cpu(tmp_path, capsys):
  path = tmp_path / 'figures.json'
  words = ('--device=cpu', '--models=tiny', '--batches=2', '--image_size=32')
  assert gpu_check.main([*words, f'--json={path}']) == 0
  printed = capsys.readouterr().out
  assert printed.count('agree: ') == 2
  assert '| tiny | auto | 2 |' in printed
  [timing] = json.loads(path.read_text())['timings']
  assert timing['seconds'] > 0
