"""Real processes over loopback: one run, whatever it is divided over."""

import json
import os
import re
import shutil
import signal
import socket
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from coatnet_jax.checkpoints import saving
from tests import real_processes
from tests.real_processes import (
  Processes,
  create_agreement,
  create_run,
  create_training,
  read_result,
  wait_for,
)

# Process 0 saves a step of 4 devices of 2 processes, or both load and take it.
SAVE_OR_LOAD = """
import sys
import jax, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from coatnet_jax.tpu_compiler import compiled_step
from tests.tpu_compiler.compiled_step_test import _lower

index, action, path, address = int(sys.argv[1]), *sys.argv[2:]
# A CPU's program that comes out of the cache cannot be saved again.
jax.config.update('jax_enable_compilation_cache', False)
jax.distributed.initialize(address, 2, index)
mesh = Mesh(np.array(jax.devices()), ('data',))
lowered = _lower(mesh)
if action == 'save':
  compiled = lowered.compile()
  if index == 0:
    compiled_step.save_compiled(path, lowered, compiled, mesh)
else:
  step = compiled_step.load_compiled(path, lowered, mesh)
  batch = jax.make_array_from_process_local_data(
    NamedSharding(mesh, PartitionSpec('data')),
    np.full((8, 4), index + 1, np.float32))
  replicated = NamedSharding(mesh, PartitionSpec())
  state = {'total': jax.device_put(np.float32(1), replicated)}
  for _ in range(3):
    state, metrics = step(state, batch)
  print('result', float(state['total']), float(metrics['mean']))
multihost_utils.sync_global_devices(action)
"""


@pytest.fixture(name='processes')
def fixture_processes(tmp_path):
  directory = tmp_path / 'output'
  directory.mkdir()
  processes = Processes(directory)
  yield processes
  processes.end()


def _steps(workdir):
  """Returns the steps of the checkpoints that were written to their end."""
  names = [p.name for p in saving.checkpoint_directory(workdir).glob('*')]
  return sorted(int(name) for name in names if name.isdigit())


def test_processes_that_differ_are_told_where(processes):
  started = processes.start(3, create_agreement(lambda index: f'{index // 2}'))
  for process in started:
    assert process.wait(60) == 1
  expected = (
    'The processes differ in their command; all must be started with the same'
    ' code, packages and command. The difference:\n'
    f'  Process 2 ({socket.gethostname()}): config.seed is 1, of process 0 0\n'
  )
  # Once, not by all.
  assert started[0].stderr() == f'Error: {expected}'
  assert started[1].stderr() == started[2].stderr() == ''


@pytest.mark.slow
def test_one_that_does_not_come_is_not_waited_for_long(processes):
  [alone] = processes.start(
    1, create_agreement(lambda index: 'fact', expected=2, seconds=3)
  )
  assert alone.wait(60) != 0
  assert re.search(
    r'Error: Process 0 \(.+\) gave up: not all 2 processes of the run came to'
    r' 127\.0\.0\.1:\d+ within 3 s\.',
    alone.stderr(),
  )


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('count', [2, 4])
def test_processes_of_two_devices_are_one_device(processes, tmp_path, count):
  [alone] = processes.start(1, create_training(tmp_path / 'one'), devices=1)
  expected = read_result([alone])
  result = read_result(
    processes.start(count, create_training(tmp_path / 'many'))
  )
  assert (expected['devices'], result['devices']) == (1, 2 * count)
  assert len(result['losses']) == 5
  assert result['losses'] == pytest.approx(expected['losses'], rel=1e-5)
  assert result['examples'] == expected['examples']
  # 101 examples in batches of 24, over all processes: each once.
  summaries = [
    json.loads((tmp_path / name / 'summary.json').read_text())['final']
    for name in ('one', 'many')
  ]
  assert [summary['count'] for summary in summaries] == [101, 101]
  assert summaries[1]['loss'] == pytest.approx(summaries[0]['loss'], rel=1e-4)


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize(('count', 'devices'), [(1, 4), (2, 2)])
def test_restored_on_other_devices_it_is_the_same_run(
  processes, tmp_path, count, devices
):
  options = {'sharding.fsdp': 2, 'checkpoint.every_steps': 3}
  whole = read_result(
    processes.start(
      2, create_training(tmp_path / 'whole', **options), devices=4
    )
  )
  # Left after step 3, as by a kill; the newest checkpoint is that of step 3.
  os.rename(
    tmp_path / 'whole' / 'checkpoints' / '5', tmp_path / 'checkpoint_of_step_5'
  )
  rest = read_result(
    processes.start(
      count, create_training(tmp_path / 'whole', **options), devices=devices
    )
  )
  assert (whole['devices'], rest['devices']) == (8, 4)
  assert rest['examples'] == whole['examples'][3:]
  assert rest['losses'] == pytest.approx(whole['losses'][3:], rel=1e-5)


@pytest.fixture(name='two_hosts')
def fixture_two_hosts(tmp_path):
  if os.geteuid() != 0 or not shutil.which('unshare') or not shutil.which('ip'):
    yield None  # As for most users; the rest is tested all the same.
    return
  hosts = real_processes.TwoHosts(tmp_path)
  yield hosts
  hosts.close()


# How long the watchdog waits for a beat in these tests.
SILENCE = 15


def _kill(process, _):
  process.process.kill()


def _stop(process, _):
  os.kill(process.process.pid, signal.SIGSTOP)


def _cut(_, network):
  network.cut()


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize(
  'events',
  [
    [('compiling', _kill, 2), ('saving', _stop, 1)],
    [('saving', _kill, 0), ('saving', _cut, 3)],
    [('compiling', _stop, 0)],
  ],
  ids=['killed, stopped', 'first killed, cut off', 'first stopped'],
)
def test_without_one_of_them_they_end_and_resume_exactly(
  processes, tmp_path, two_hosts, events
):
  """One of four is killed, stopped or cut off, and the run resumes.

  They are compiling with a cold cache, or saving, which they do after every
  step.
  """
  options = (
    '--config.training.num_steps=14',
    '--config.checkpoint.every_steps=1',
    '--config.checkpoint.max_to_keep=9',
  )
  whole = processes.start(4, create_run(tmp_path / 'whole', *options))
  for process in whole:
    assert process.wait() == 0, process.stderr()
  command = create_run(tmp_path / 'run', *options)
  cold = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'cache')}
  for moment, end, victim in events:
    network = two_hosts if end is _cut else None
    if end is _cut and network is None:
      continue
    started = processes.start(
      4,
      command,
      network=network,
      TEST_SILENCE_SECONDS=str(SILENCE),
      **(cold if moment == 'compiling' else {}),
    )
    if moment == 'compiling':
      wait_for(started, 'Compiling the train step')
    else:
      last = max(_steps(tmp_path / 'run'), default=0)
      # One step is saved when the next but one is taken.
      wait_for(started, f'step {last + 3}/')
    host = network.names[1] if network else socket.gethostname()
    end(started[victim], network)
    _check_the_others_end(started, victim, f'Process {victim} ({host})')
  last = processes.start(4, command)
  for process in last:
    assert process.wait() == 0, process.stderr()
  resumes = 'Resuming from the checkpoint of step' in last[0].stdout()
  assert resumes == any(moment == 'saving' for moment, *_ in events)
  whole, resumed = (
    _read_arrays(tmp_path / name, 14) for name in ('whole', 'run')
  )
  assert [name for name in whole if whole[name] != resumed.get(name)] == []


def _read_arrays(workdir, step):
  """Returns the bytes of a checkpoint's arrays, whatever devices had them."""
  path = saving.checkpoint_directory(workdir) / str(step) / 'state'
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
    host = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    state = checkpointer.restore(
      path, ocp.args.PyTreeRestore(restore_args=host)
    )
  if jax.dtypes.issubdtype(state['key'].dtype, jax.dtypes.prng_key):
    state['key'] = jax.random.key_data(state['key'])
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {jax.tree_util.keystr(n): np.asarray(x).tobytes() for n, x in leaves}


def _check_the_others_end(started, victim, name):
  """They end within the documented bound, with a message that names it."""
  # A beat may just have been; the verdict has to be read.
  deadline = time.monotonic() + SILENCE + 15
  for index, process in enumerate(started):
    if index != victim:
      assert process.wait(max(1, deadline - time.monotonic())) != 0
      # Where JAX has aborted a process, another says why a moment later.
      while name not in process.stderr() and time.monotonic() < deadline:
        time.sleep(0.1)
      assert name in process.stderr(), (index, process.stderr())
  started[victim].process.kill()


@pytest.mark.slow
def test_hanging_in_python(processes, tmp_path):
  started = processes.start(
    2,
    lambda *place: [
      '-c',
      'import sys, time, main, train\n'
      'from coatnet_jax.data import damage\n'
      'update, seen = damage.CorruptImageCounter.update, []\n'
      'def hang(self, batch):\n'
      '  seen.append(0)\n'
      f'  if {place[2]} == 1 and len(seen) == 6: time.sleep(1000)\n'
      '  update(self, batch)\n'
      'damage.CorruptImageCounter.update = hang\n'
      'sys.exit(main.main(sys.argv[1:]))\n',
      *create_run(
        tmp_path / 'run',
        '--config.training.num_steps=3000',
        '--hang_timeout_seconds=60',
      )(*place)[1:],
    ],
  )
  wait_for(started, 'step 3/')
  for process in started:
    assert process.wait(120) == 1
    assert re.search(
      r'Process 1 \(.+\) has been reading the images of step 6 for \d+ s, and'
      r' (the others wait|Process 0 \(.+\) has waited in vain)',
      process.stderr(),
    )


@pytest.mark.slow
@pytest.mark.rotating
def test_one_that_is_asked_to_stop_stops_all(processes, tmp_path):
  options = ('--config.training.num_steps=80', '--config.data.num_workers=1')
  step = 0
  # The second time the run has resumed, and asks from another step on.
  for asked, seen in ((1, 'step 5/'), (0, 'step 40/')):
    started = processes.start(2, create_run(tmp_path / 'run', *options))
    wait_for(started, seen)
    started[asked].process.send_signal(signal.SIGTERM)
    for process in started:
      assert process.wait() == 75, process.stderr()
    last, step = step, max(_steps(tmp_path / 'run'))
    assert last < step < 80
    assert f'Stopped after step {step}, which is saved' in started[0].stdout()
    assert started[1].stdout().count('Stopped') == 0
  again = processes.start(2, create_run(tmp_path / 'run', *options))
  for process in again:
    assert process.wait() == 0, process.stderr()
  assert f'Resuming from the checkpoint of step {step}' in again[0].stdout()
  assert max(_steps(tmp_path / 'run')) == 80


@pytest.mark.slow
def test_other_config_is_refused_before_anything_is_written(
  processes, tmp_path
):
  started = processes.start(
    2,
    create_run(
      tmp_path / 'run',
      own=lambda index: [f'--config.optimizer.weight_decay=0.{index + 1}'],
    ),
  )
  for process in started:
    assert process.wait() == 1
  assert 'config.optimizer.weight_decay is 0.2, of process 0 0.1' in (
    started[0].stderr()
  )
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_an_error_of_one_process_ends_the_others(processes, tmp_path):
  # A file where process 1 has its log.
  (tmp_path / 'run' / 'train_1.log').mkdir(parents=True)
  started = processes.start(2, create_run(tmp_path / 'run'))
  for process in started:
    assert process.wait() == 1
    assert re.search(
      r'Process 1 \(.+\) ended by an error: .*Is a directory', process.stderr()
    )
  assert 'Traceback' in started[1].stderr()
  assert 'Traceback' not in started[0].stderr()


@pytest.mark.slow
@pytest.mark.rotating
def test_steps_are_skipped_and_a_divergence_explained_by_all(
  processes, tmp_path
):
  options = (
    # Every update is too large for float32.
    '--config.schedule.peak_learning_rate=3e38',
    '--config.schedule.warmup_epochs=0.0',
    '--config.schedule.decay=constant',
    '--config.training.skip_nonfinite_steps=2',
    '--config.checkpoint.every_steps=1',
  )
  started = processes.start(2, create_run(tmp_path / 'run', *options))
  for process in started:
    assert process.wait() == 1
  assert re.search(
    r'diverged at step 3: .*\. 2 steps were skipped before\. It begins in the'
    r' (update|norm of the new parameters)',
    started[0].stderr(),
  )
  assert _steps(tmp_path / 'run')[-1] == 2
  assert [p.name for p in (tmp_path / 'run/diverged').iterdir()] == [
    'step_3.npz'
  ]


@pytest.mark.slow
def test_processes_load_the_program_that_one_of_them_saved(processes, tmp_path):
  def command(action):
    path = str(tmp_path / 'step')
    return lambda address, _, index: [
      *('-c', SAVE_OR_LOAD, str(index), action, path, address)
    ]

  for action in ('save', 'load'):
    started = processes.start(2, command(action))
    for process in started:
      assert process.wait() == 0, process.stderr()
  for process in started:
    # 1 and three times twice the sum of 32 ones and 32 twos.
    assert 'result 577.0 1.5' in process.stdout()
