"""Starts real processes over loopback, each with a command of its own.

A command is a function of the address of process 0, of the number of the
processes and of a process's own number: the words after the interpreter's name.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
# How long anything may take on a busy machine with two cores.
TIMEOUT = 280

# Connects and compares, without the rest of the program.
AGREE = """
import sys
from coatnet_jax.distributed import processes
from coatnet_jax.errors import UserError
address, count, index, fact, seconds = sys.argv[1:]
try:
  options = processes.ProcessOptions(
    coordinator_address=address, num_processes=int(count),
    process_id=int(index), connect_timeout_seconds=float(seconds))
  with processes.connect(options):
    processes.check_agreement('code', processes.describe_code())
    processes.check_agreement('command', {'config.seed': fact})
  print('together')
except UserError as error:
  sys.exit(f'Error: {error}')
"""

# Trains, and prints every step's loss and a number for each of its examples.
TRAIN = """
import json, sys
import jax, jax.numpy as jnp
import train
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed import processes
from tests import processes_config

address, count, index, workdir, options = sys.argv[1:]
config = processes_config.get_config()
config.update_from_flattened_dict(json.loads(options))
records = []
compile_train_step = train.compile_train_step

def compile_and_record(run, *args):
  take_step = compile_train_step(run, *args)

  def checksum(images):
    factors = jnp.arange(images[0].size, dtype=jnp.uint32).reshape(
      images.shape[1:])
    return (images.astype(jnp.uint32) * factors).sum((1, 2, 3))

  checksum = jax.jit(
    checksum, out_shardings=mesh_lib.create_replicated_sharding(run.mesh))

  def record(state, batch):
    examples = checksum(batch['image'])
    state, metrics = take_step(state, batch)
    records.append((metrics['loss'], examples))
    return state, metrics

  return record

train.compile_train_step = compile_and_record
alone = count == '1'
with processes.connect(processes.ProcessOptions(
    coordinator_address='' if alone else address, num_processes=int(count),
    process_id=None if alone else int(index), connect_timeout_seconds=60)):
  train.train_and_evaluate(config, workdir)
  losses = [float(loss) for loss, _ in records]
  examples = [jax.device_get(e).tolist() for _, e in records]
  print(json.dumps({
    'losses': losses, 'examples': examples, 'devices': jax.device_count()}))
"""


@dataclasses.dataclass
class Started:
  """One of the processes, with the files that it writes to."""

  process: subprocess.Popen
  output: pathlib.Path
  errors: pathlib.Path

  def wait(self, timeout=TIMEOUT):
    return self.process.wait(timeout)

  def stdout(self):
    return self.output.read_text()

  def stderr(self):
    return self.errors.read_text()


class Processes:
  """Starts processes, and leaves none behind."""

  def __init__(self, directory):
    self._directory = directory
    self._started = []

  def start(self, count, command, *, devices=2, network=None, **environment):
    """Starts `count` processes with `command(address, count, index)`.

    Args:
      count: number of processes.
      command: function that returns the words after the interpreter's name.
      devices: number of devices of each.
      network: `TwoHosts`, whose second has the last process; all on this one
        if None.
      **environment: further variables of the environment.
    """
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      host = network.addresses[0] if network else '127.0.0.1'
      address = f'{host}:{free.getsockname()[1]}'
    environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': str(ROOT),
      'PYTHONUNBUFFERED': '1',
      # XLA's threads, of which every device's collectives hold some.
      'NPROC': '32',
      'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]}'
      f' --xla_force_host_platform_device_count={devices}'
      # Two cores are a long time before all devices have come.
      ' --xla_cpu_collective_call_terminate_timeout_seconds=300'
      # As tests/devices_test.py says: devices may wait for each other for ever.
      ' --xla_cpu_enable_concurrency_optimized_scheduler=false',
      **environment,
    }
    started = []
    for index in range(count):
      name = f'{len(self._started)}'
      output = self._directory / f'{name}.stdout'
      errors = self._directory / f'{name}.stderr'
      with output.open('w') as out, errors.open('w') as err:
        process = subprocess.Popen(
          [
            *(network.enter(is_last=index == count - 1) if network else ()),
            sys.executable,
            *command(address, count, index),
          ],
          cwd=ROOT,
          stdin=subprocess.DEVNULL,
          stdout=out,
          stderr=err,
          env=environment,
          start_new_session=True,
        )
      started.append(Started(process, output, errors))
      self._started.append(started[-1])
    return started

  def end(self):
    """Kills what still runs, with everything it has started."""
    for started in self._started:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(started.process.pid, signal.SIGKILL)
      started.process.wait()


class TwoHosts:
  """Two network name spaces with a cable between them, which can be cut."""

  names = ('near', 'far')
  addresses = ('10.77.0.1', '10.77.0.2')

  def __init__(self, directory):
    """Makes them; needs root and Linux.

    Args:
      directory: directory for a file of the hosts' names.
    """
    hosts = directory / 'hosts'
    lines = [f'{a} {n}\n' for a, n in zip(self.addresses, self.names)]
    hosts.write_text('127.0.0.1 localhost\n' + ''.join(lines))
    self._holders = [
      subprocess.Popen(
        ['unshare', '--net', '--uts', '--mount', 'sh', '-ec']
        + [
          f'hostname {name}; mount --bind {hosts} /etc/hosts;'
          ' ip link set lo up; echo ready; exec sleep 3600'
        ],
        stdout=subprocess.PIPE,
      )
      for name in self.names
    ]
    for holder in self._holders:
      assert holder.stdout.readline() == b'ready\n'
    other = str(self._holders[1].pid)
    words = ('ip', 'link', 'add', 'cable', 'type', 'veth', 'peer', 'cable')
    self._run(0, *words, 'netns', other)
    for index, address in enumerate(self.addresses):
      self._run(index, 'ip', 'address', 'add', f'{address}/24', 'dev', 'cable')
      self._run(index, 'ip', 'link', 'set', 'cable', 'up')

  def enter(self, *, is_last):
    """Returns the words before a command that is run on a host."""
    return self._enter(int(is_last))

  def cut(self):
    """Cuts the cable: neither hears of the other any more."""
    self._run(0, 'ip', 'link', 'set', 'cable', 'down')

  def close(self):
    """Ends both."""
    for holder in self._holders:
      holder.kill()
      holder.wait()
      holder.stdout.close()

  def _enter(self, index):
    process = str(self._holders[index].pid)
    spaces = ('--net', '--uts', '--mount', f'--wd={ROOT}')
    return 'nsenter', '--target', process, *spaces, '--'

  def _run(self, index, *words):
    subprocess.run([*self._enter(index), *words], check=True)


def create_agreement(fact, *, expected=None, seconds=30):
  """Returns the command that compares `fact(index)` with the others'."""

  def command(address, count, index):
    numbers = (str(expected or count), str(index))
    return ['-c', AGREE, address, *numbers, fact(index), str(seconds)]

  return command


def create_training(workdir, **options):
  """Returns the command that trains and prints what `read_result` reads.

  Args:
    workdir: directory of the run.
    **options: changes of the config; the names have dots in them.
  """

  def command(address, count, index):
    return [
      *('-c', TRAIN, address, str(count), str(index)),
      *(str(workdir), json.dumps(options)),
    ]

  return command


def create_run(workdir, *options, own=lambda index: ()):
  """Returns the command that trains by main.py.

  Args:
    workdir: directory of the run.
    *options: further words of the command line.
    own: function of a process's number to words of its own.
  """

  def command(address, count, index):
    return [
      *('main.py', '--config=tests/processes_config.py'),
      *(f'--workdir={workdir}', f'--coordinator_address={address}'),
      *(f'--num_processes={count}', f'--process_id={index}'),
      *(*options, *own(index)),
    ]

  return command


def read_result(started):
  """Waits for all processes; returns what they printed, which is the same."""
  for process in started:
    assert process.wait() == 0, process.stderr()
  results = [json.loads(p.stdout().splitlines()[-1]) for p in started]
  assert all(result == results[0] for result in results)
  return results[0]


def wait_for(started, text, timeout=TIMEOUT):
  """Waits until the first process has printed what matches."""
  deadline = time.monotonic() + timeout
  while not re.search(text, started[0].stdout()):
    for process in started:
      assert process.process.poll() is None, process.stderr()
    assert time.monotonic() < deadline, started[0].stdout()
    time.sleep(0.05)
