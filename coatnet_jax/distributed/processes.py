"""Many processes as one run: they find each other, agree, and end together.

    with connect(ProcessOptions()):
      check_agreement('config', {'config.seed': 0})
      begin('taking step 1')

On a single machine nothing of this does anything, and nothing uses the network.
Where there are several processes, each runs the same program over its own
devices, and `jax.distributed` joins them. How they end together is
`watchdog.py`'s.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging as python_logging
import os
import pathlib
import platform
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import jax
from absl import logging

# JAX's detection of clusters, and its key-value store, have no public names.
from jax._src import clusters
from jax._src.distributed import global_state

from coatnet_jax import stopping, terminal
from coatnet_jax.distributed.last_words import LastWords
from coatnet_jax.distributed.watchdog import (
  HEARTBEAT_SECONDS,
  Watchdog,
  name_process,
)
from coatnet_jax.errors import UserError, shorten
from coatnet_jax.strict_json import to_json
from coatnet_jax.values import Range, convert

# Packages that compute, or move data between processes.
PACKAGES = ('jax', 'jaxlib', 'libtpu', 'flax', 'optax', 'orbax-checkpoint')
# Who does not come is the watchdog's.
_NO_TIMEOUT_MILLISECONDS = 24 * 3600 * 1000

_watchdog: Watchdog | None = None
_hosts: list[str] = []

# How long one can wait: some two weeks at most.
_Seconds = Annotated[float, Range(above=0, at_most=1e6)]
_Processes = Annotated[int, Range(at_least=1, at_most=2**20)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
  """How the processes of a run find each other, and how long they wait.

  Attributes:
    coordinator_address: host:port of process 0; empty where JAX finds out by
      itself (TPU VMs, GKE, Slurm, Open MPI).
    num_processes: number of processes; None where JAX finds out by itself, 1 to
      look for no others.
    process_id: number of this process, from 0; None where JAX finds out by
      itself.
    connect_timeout_seconds: longest time that the processes wait for each other
      at the start.
    hang_timeout_seconds: longest time for one thing while the others wait:
      compiling, an evaluation batch, saving a checkpoint.
  """

  coordinator_address: str = ''
  num_processes: int | None = None
  process_id: int | None = None
  connect_timeout_seconds: float = 300.0
  hang_timeout_seconds: float = 1800.0

  def __post_init__(self):
    """Raises UserError for options that don't fit each other."""
    if self.num_processes is not None:
      convert('--num_processes', self.num_processes, _Processes)
    given = (
      bool(self.coordinator_address),
      self.num_processes is not None,
      self.process_id is not None,
    )
    alone = given == (False, True, False) and self.num_processes == 1
    if any(given) and not all(given) and not alone:
      raise UserError(
        '--coordinator_address, --num_processes and --process_id are given'
        ' together, or none of them (or --num_processes=1 alone, to look for'
        ' no other processes).'
      )
    if all(given):
      self._check()
    for name in ('connect_timeout_seconds', 'hang_timeout_seconds'):
      convert(f'--{name}', getattr(self, name), _Seconds)

  def _check(self) -> None:
    if not 0 <= self.process_id < self.num_processes:
      raise UserError(
        f'--process_id is {self.process_id}; with --num_processes'
        f' {self.num_processes} it must be in 0 .. {self.num_processes - 1}.'
      )
    host, _, port = self.coordinator_address.rpartition(':')
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
      raise UserError(
        f'--coordinator_address is {self.coordinator_address!r}; it must be'
        ' host:port of process 0, such as 10.0.0.1:8476.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
  """Where a process is among several; fields as `jax.distributed` has them."""

  coordinator_address: str
  num_processes: int
  process_id: int
  local_device_ids: Any = None


def find_place(options: ProcessOptions) -> Place | None:
  """Returns which process of how many this is; None if it is the only one.

  Asks the cluster's environment variables, and on a TPU VM its metadata;
  nothing else.

  Args:
    options: options of the command line.

  Raises:
    UserError: there is a cluster, and it does not say.
  """
  if options.num_processes == 1:
    return None
  if options.num_processes is not None:
    return Place(
      coordinator_address=options.coordinator_address,
      num_processes=options.num_processes,
      process_id=options.process_id,
    )
  try:
    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      None, None, None, None, None, round(options.connect_timeout_seconds)
    )
  # The errors of a metadata server, of a name server and of reading a variable
  # have no type in common.
  except Exception as error:
    raise UserError(
      'The other processes cannot be found in the environment of this cluster'
      f' ({error}); --coordinator_address, --num_processes and --process_id'
      ' say it instead, --num_processes=1 that there are none.'
    ) from error
  address, count, index, local_device_ids = found
  if not address or not count or count == 1:
    return None
  return Place(
    coordinator_address=address,
    num_processes=count,
    process_id=index,
    local_device_ids=local_device_ids,
  )


@contextlib.contextmanager
def connect(options: ProcessOptions) -> Iterator[None]:
  """Context in which this process is one of a run's; before jax has devices.

  An error that leaves the context ends all processes: see `watchdog.py`. A
  single process is left as it is.

  Args:
    options: options of the command line.

  Raises:
    UserError: the other processes cannot be reached.
  """
  global _watchdog
  place = find_place(options)
  if place is None:
    yield
    return
  last_words = LastWords()
  stopping.before_end(last_words.cancel)
  try:
    _join(place, options, last_words)
  except BaseException:
    last_words.cancel()
    raise
  _watchdog = Watchdog(
    global_state.client,
    process_index=place.process_id,
    process_count=place.num_processes,
    hosts=_hosts,
    hang_seconds=options.hang_timeout_seconds,
    last_words=last_words,
  )
  try:
    yield
    _watchdog.finish()
  except BaseException as error:
    _watchdog.fail(error)
  _watchdog = None
  jax.distributed.shutdown()
  last_words.cancel()


def begin(doing: str, progress: str = '', done: float | None = None) -> None:
  """Tells the other processes, and who waits, what is done from now on.

  To be called at the same places by all of them, by the main thread.

  Args:
    doing: words for after "It was".
    progress: words for how far it has come: 'batch 3 of 16'.
    done: part of it that is done, 0 to 1; None where that is not known.
  """
  terminal.begin(doing, progress, done)
  if _watchdog:
    _watchdog.begin(f'{doing}, {progress}' if progress else doing)


def end_all_on_error(_, error: BaseException | None, __) -> None:
  """Does at once what leaving `connect` with an error does; an `__exit__`."""
  if _watchdog and error is not None:
    _watchdog.fail(error)


def wait_for_all(doing: str) -> None:
  """Waits until all processes are here; to be called by all.

  Collectives of CPUs give a process up that comes half a minute late.

  Args:
    doing: words for what they have done, once in a run.
  """
  if _watchdog:
    begin(f'waiting for the others after {doing}')
    global_state.client.wait_at_barrier(
      f'coatnet_jax/{doing}', _NO_TIMEOUT_MILLISECONDS
    )


def check_agreement(topic: str, facts: Mapping[str, Any]) -> None:
  """Checks that all processes have the same to say; to be called by all.

  Args:
    topic: subject of the agreement, once in a run.
    facts: JSON values by name.

  Raises:
    UserError: on every process, with what differs from process 0, and where.
  """
  if _watchdog is None:
    return
  begin(f'comparing the {topic} of the processes')
  told = _gather(topic, dict(facts))
  lines = describe_differences(told, _hosts)
  if lines:
    raise UserError(
      f'The processes differ in their {topic}; all must be started with the'
      ' same code, packages and command. The difference:\n' + '\n'.join(lines)
    )


def describe_differences(
  told: list[Mapping[str, Any]], hosts: list[str]
) -> list[str]:
  """Returns a line for everything that differs from what process 0 told.

  Args:
    told: facts of every process, by name.
    hosts: name of the host of each process.
  """
  missing = '(not there)'
  first = told[0]
  lines = [
    f'  {name_process(index, hosts[index])}: {name} is'
    f' {facts.get(name, missing)}, of process 0 {first.get(name, missing)}'
    for index, facts in enumerate(told)
    for name in sorted(first.keys() | facts.keys())
    if first.get(name, missing) != facts.get(name, missing)
  ]
  return shorten(lines)


def describe_code() -> dict[str, str]:
  """Returns what must be the same in all processes beside the config."""
  facts = {'the code (hash of its files)': hash_source()}
  facts['Python'] = platform.python_version()
  for package in PACKAGES:
    try:
      facts[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      facts[package] = 'not installed'
  for name in ('XLA_FLAGS', 'LIBTPU_INIT_ARGS'):
    facts[name] = os.environ.get(name, '')
  return facts


def hash_source() -> str:
  """Returns 12 hex digits of the SHA-256 of this package and of train.py."""
  package = pathlib.Path(__file__).parents[1]
  files = [package.parent / 'main.py', package.parent / 'train.py']
  digest = hashlib.sha256()
  for path in sorted([*package.rglob('*.py'), *files]):
    if path.exists():
      digest.update(str(path.relative_to(package.parent)).encode())
      digest.update(path.read_bytes())
  return digest.hexdigest()[:12]


def _join(place: Place, options: ProcessOptions, words: LastWords) -> None:
  """Waits for all processes; says who is where."""
  index, address = place.process_id, place.coordinator_address
  host = socket.gethostname()
  name = name_process(index, host)
  seconds = options.connect_timeout_seconds
  words.prepare(
    f'Error: {name} gave up: not all {place.num_processes} processes of the run'
    f' came to {address} within {seconds:.0f} s.'
  )
  started = time.monotonic()
  if index == 0:
    _check_free(address)
  else:
    _wait_for_coordinator(address, seconds)
  if index:
    # What libraries log there; the first process's errors need no name.
    logging.get_absl_handler().setFormatter(
      python_logging.Formatter(f'{name}: %(message)s')
    )
  jax.distributed.initialize(
    address,
    place.num_processes,
    index,
    local_device_ids=place.local_device_ids,
    cluster_detection_method='deactivate',
    initialization_timeout=max(
      1, round(seconds - (time.monotonic() - started))
    ),
    heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
  )
  # From here on JAX has its own handler of SIGTERM, which tells all processes.
  stopping.pass_on_to(lambda: os.kill(os.getpid(), signal.SIGTERM))
  _hosts[:] = _gather('hosts', host, round(seconds * 1000))
  words.prepare(
    f'Error: {name} was ended from outside, as by kill -9, or by an error below'
    ' Python.',
    address='' if index == 0 else address,
    lost=f'Error: {name} ends because {name_process(0, _hosts[0])}, which holds'
    f' the run together at {address}, is gone; the same command on all'
    ' processes resumes from the last checkpoint.',
  )


def _gather(
  topic: str, value: Any, milliseconds: int = _NO_TIMEOUT_MILLISECONDS
) -> list[Any]:
  """Returns everybody's JSON value, on every process."""
  client = global_state.client
  prefix = f'coatnet_jax/told/{topic}'
  # Not jax.process_index(), which waits for every process to have its devices.
  client.key_value_set(f'{prefix}/{global_state.process_id}', to_json(value))
  client.wait_at_barrier(f'{prefix}_barrier', milliseconds)
  found = client.key_value_dir_get(prefix)
  told = {int(key.rpartition('/')[2]): json.loads(v) for key, v in found}
  return [told[index] for index in sorted(told)]


def _check_free(address: str) -> None:
  """Raises UserError if process 0's port is taken."""
  port = int(address.rpartition(':')[2])
  with socket.socket(socket.AF_INET) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', port))
    except OSError as error:
      raise UserError(
        f'Process 0 cannot use port {port} of {address} ({error.strerror});'
        ' another run may still have it.'
      ) from error


def _wait_for_coordinator(address: str, seconds: float) -> None:
  """Waits until process 0 listens; JAX, which would wait too, aborts."""
  host, _, port = address.rpartition(':')
  deadline = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection((host.strip('[]'), int(port)), 5).close()
      return
    except OSError as error:
      if time.monotonic() > deadline:
        raise UserError(
          f'Process 0 could not be reached at {address} within'
          f' {seconds:.0f} s ({error.strerror or error}); it must be running'
          ' there, and no firewall in between.'
        ) from error
    time.sleep(0.5)
