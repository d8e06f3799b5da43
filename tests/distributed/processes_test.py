"""What a command line and a cluster say of the other processes."""

import json
import pathlib
import socket
import subprocess
import sys

import pytest

from coatnet_jax.distributed import last_words, processes
from coatnet_jax.distributed.processes import ProcessOptions
from coatnet_jax.errors import UserError

# What JAX looks for where it detects a cluster.
CLUSTERS = (
  'OMPI_MCA_orte_hnp_uri',
  'SLURM_JOB_ID',
  'KUBERNETES_SERVICE_HOST',
  'TPU_WORKER_HOSTNAMES',
)


@pytest.fixture(name='no_cluster')
def fixture_no_cluster(monkeypatch):
  for name in CLUSTERS:
    monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'process_id': 0}, 'are given together, or none of them'),
    ({'coordinator_address': 'a:1', 'num_processes': 2}, 'are given together'),
    ({'num_processes': 2}, r'or --num_processes=1 alone'),
    (
      {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 2},
      r'--process_id is 2; .* in 0 \.\. 1\.',
    ),
    (
      {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': -1},
      '--process_id is -1',
    ),
    (
      {'coordinator_address': 'a', 'num_processes': 2, 'process_id': 0},
      "'a'; it must be host:port",
    ),
    (
      {'coordinator_address': 'a:99999', 'num_processes': 2, 'process_id': 0},
      "'a:99999'; it must be host:port",
    ),
    ({'hang_timeout_seconds': 0.0}, 'seconds is 0.0; .* above 0'),
    ({'connect_timeout_seconds': float('nan')}, 'seconds is nan'),
    ({'num_processes': 0}, '--num_processes is 0; .* at least 1'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(UserError, match=message):
    ProcessOptions(**options)


def test_a_single_machine_is_a_single_process(no_cluster):
  assert processes.find_place(ProcessOptions()) is None
  with processes.connect(ProcessOptions()):
    processes.begin('training')
    processes.check_agreement('config', {'config.seed': 0})


def test_flags_say_the_place(no_cluster):
  place = processes.find_place(
    ProcessOptions(
      coordinator_address='10.0.0.1:8476', num_processes=4, process_id=3
    )
  )
  assert (place.coordinator_address, place.num_processes) == (
    '10.0.0.1:8476',
    4,
  )
  assert place.process_id == 3


def test_slurm_says_the_place(no_cluster, monkeypatch):
  monkeypatch.setenv('SLURM_JOB_ID', '4097')
  monkeypatch.setenv('SLURM_STEP_NODELIST', 'node[007-010]')
  monkeypatch.setenv('SLURM_NTASKS', '4')
  monkeypatch.setenv('SLURM_PROCID', '2')
  monkeypatch.setenv('SLURM_LOCALID', '0')
  place = processes.find_place(ProcessOptions())
  assert place.coordinator_address == 'node007:61441'
  assert (place.num_processes, place.process_id) == (4, 2)
  assert processes.find_place(ProcessOptions(num_processes=1)) is None
  monkeypatch.setenv('SLURM_NTASKS', '1')
  monkeypatch.setenv('SLURM_PROCID', '0')
  assert processes.find_place(ProcessOptions()) is None


def test_open_mpi_says_the_place(no_cluster, monkeypatch):
  uri = '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'
  monkeypatch.setenv('OMPI_MCA_orte_hnp_uri', uri)
  monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '8')
  monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '5')
  monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '1')
  place = processes.find_place(ProcessOptions())
  assert place.coordinator_address.startswith('10.96.0.1:')
  assert (place.num_processes, place.process_id) == (8, 5)


def test_a_cluster_that_says_too_little(no_cluster, monkeypatch):
  monkeypatch.setenv('OMPI_MCA_orte_hnp_uri', 'nothing')
  with pytest.raises(UserError, match='--num_processes=1 that there are none'):
    processes.find_place(ProcessOptions())


def test_differences_are_listed_and_not_all():
  hosts = [f'host-{index}' for index in range(50)]
  told = [{'seed': 0, 'jax': '1'}] * 49 + [{'seed': 3}]
  assert processes.describe_differences(told, hosts) == [
    '  Process 49 (host-49): jax is (not there), of process 0 1',
    '  Process 49 (host-49): seed is 3, of process 0 0',
  ]
  told = [{'seed': index} for index in range(50)]
  lines = processes.describe_differences(told, hosts)
  assert len(lines) == 21
  assert lines[-1] == '  and 29 more'


def test_the_code_is_described():
  facts = processes.describe_code()
  assert facts['jax'].count('.') >= 2
  assert facts['the code (hash of its files)'] == processes.hash_source()


@pytest.mark.parametrize(
  'name', ['train.py', 'main.py', 'coatnet_jax/models/layers.py']
)
def test_the_hash_of_the_code_is_of_every_file(monkeypatch, name):
  before = processes.hash_source()
  read_bytes = pathlib.Path.read_bytes

  def read_changed(path):
    return read_bytes(path) + b'#' * path.as_posix().endswith(f'/{name}')

  monkeypatch.setattr(pathlib.Path, 'read_bytes', read_changed)
  assert processes.hash_source() != before


@pytest.mark.parametrize(
  ('index', 'message'),
  [
    (1, 'Process 0 could not be reached at 127.0.0.1:{port} within 1 s'),
    (0, 'Process 0 cannot use port {port} of 127.0.0.1:{port}'),
  ],
)
def test_a_port_that_does_not_answer_or_is_taken(index, message):
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))  # Taken, and nobody listens.
    port = taken.getsockname()[1]
    options = ProcessOptions(
      coordinator_address=f'127.0.0.1:{port}',
      num_processes=2,
      process_id=index,
      connect_timeout_seconds=1.0,
    )
    with (
      pytest.raises(UserError, match=message.format(port=port)),
      processes.connect(options),
    ):
      pass


@pytest.mark.parametrize(
  ('words', 'expected'),
  [
    ([], ''),
    ([{'text': 'a'}, {'text': 'It was killed.'}], 'It was killed.\n'),
    ([{'text': 'It was killed.'}, {'text': ''}], ''),
    (
      [{'text': 'a', 'address': '127.0.0.1:1', 'lost': 'Process 0 is gone.'}],
      'Process 0 is gone.\n',
    ),
  ],
)
def test_last_words(words, expected):
  filled = [{'address': '', 'lost': '', **word} for word in words]
  said = subprocess.run(
    [sys.executable, '-I', '-S', last_words.__file__],
    input=''.join(json.dumps(word) + '\n' for word in filled),
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  assert (said.stdout, said.stderr) == ('', expected)


@pytest.mark.parametrize('listens', [True, False])
def test_last_words_are_of_process_0_only_where_that_is_gone(listens):
  with socket.socket() as coordinator:
    coordinator.bind(('127.0.0.1', 0))
    if listens:
      coordinator.listen()
    port = coordinator.getsockname()[1]
    words = {
      'text': 'killed',
      'address': f'127.0.0.1:{port}',
      'lost': 'process 0 is gone',
    }
    said = subprocess.run(
      [sys.executable, '-I', '-S', last_words.__file__],
      input=json.dumps(words) + '\n',
      capture_output=True,
      text=True,
      check=True,
      timeout=60,
    )
  expected = 'killed' if listens else 'process 0 is gone'
  assert said.stderr == f'{expected}\n'
