"""What starts a run on a pod: the files of launch/."""

import os
import pathlib
import subprocess

import pytest
import yaml

from coatnet_jax import stopping

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / 'launch'

# Answers as gcloud does, from a list of states and one of exit statuses.
GCLOUD = """#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "$@" >> calls
pop() { head -n 1 "$1"; sed -i 1d "$1"; }
case "$*" in
  *' describe '*) state=$(pop states); [ "$state" != NONE ] && echo "$state" ;;
  *systemd-run*) exit "$(pop exits)" ;;
esac
"""


@pytest.fixture(name='tpu_vm')
def fixture_tpu_vm(tmp_path):
  """Runs tpu_vm.sh with a gcloud that answers as is said; returns its calls."""
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text(GCLOUD)
  gcloud.chmod(0o755)

  def run(states, exits, **variables):
    (tmp_path / 'states').write_text('\n'.join(states) + '\n')
    (tmp_path / 'exits').write_text('\n'.join(map(str, exits)) + '\n')
    process = subprocess.run(
      [
        LAUNCH / 'tpu_vm.sh',
        '--config=configs/coatnet_0.py',
        "--config.init_from=a 'b'",
      ],
      env={
        'PATH': f'{tmp_path}:{os.environ["PATH"]}',
        'NAME': 'run',
        'ZONE': 'z',
        'TYPE': 'v5litepod-64',
        'VERSION': 'v2-alpha-tpuv5-lite',
        'POLL_SECONDS': '0',
        **variables,
      },
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )
    calls = (tmp_path / 'calls').read_text()
    return process, calls

  return run


def test_a_run_begins_again_after_a_preemption(tpu_vm):
  process, calls = tpu_vm(
    ['NONE', 'WAITING_FOR_RESOURCES', 'ACTIVE', 'SUSPENDED', 'SUSPENDED']
    + ['NONE', 'ACTIVE'],
    [75, 0],
  )
  assert process.returncode == 0, process.stderr
  names = [
    call.split()[3] for call in calls.splitlines() if 'queued-resources' in call
  ]
  assert [name for name in names if name != 'describe'] == [
    *('create', 'delete', 'create', 'delete')
  ]
  assert '--spot --node-id=run-0 --accelerator-type=v5litepod-64' in calls
  assert calls.count('systemd-run') == 2
  # As the shell of a worker reads them.
  assert (
    r'main.py --config=configs/coatnet_0.py --config.init_from=a\ \'b\''
    in (calls)
  )


def test_errors_in_a_row_are_no_preemption(tpu_vm):
  process, calls = tpu_vm(['ACTIVE'] * 20, [1, 1, 1])
  assert process.returncode == 1
  assert '3 runs in a row ended with an error' in process.stderr
  assert ' delete ' not in calls


def test_several_slices(tpu_vm):
  process, calls = tpu_vm(
    ['NONE', 'ACTIVE'], [0, 0], SLICES='2', TIER='', KEEP='1'
  )
  assert process.returncode == 0, process.stderr
  assert 'create run --node-count=2 --node-prefix=run' in calls
  assert 'ssh run-0' in calls
  assert 'ssh run-1' in calls
  assert ' delete ' not in calls


def test_what_is_missing_is_said(tpu_vm):
  process = subprocess.run(
    [LAUNCH / 'tpu_vm.sh'], capture_output=True, text=True, check=False, env={}
  )
  assert process.returncode != 0
  assert 'NAME' in process.stderr


@pytest.mark.parametrize(
  ('exits', 'expected', 'requeued'),
  [(0, 0, False), (75, 75, True), (1, 1, False)],
)
def test_slurm_queues_again_what_was_stopped(
  tmp_path, exits, expected, requeued
):
  for name, line in (
    ('srun', f'echo "$@" > {tmp_path}/srun_arguments; exit {exits}'),
    ('scontrol', f'echo "$@" > {tmp_path}/requeued'),
  ):
    (tmp_path / name).write_text(f'#!/usr/bin/env bash\n{line}\n')
    (tmp_path / name).chmod(0o755)
  process = subprocess.run(
    ['bash', LAUNCH / 'slurm.sh', '--workdir=w'],
    env={
      'PATH': f'{tmp_path}:{os.environ["PATH"]}',
      'SLURM_JOB_ID': '7',
      'PYTHON': 'python3.11',
    },
    cwd=tmp_path,
    check=False,
    timeout=60,
  )
  assert process.returncode == expected
  assert (tmp_path / 'requeued').exists() == requeued
  arguments = (tmp_path / 'srun_arguments').read_text()
  assert arguments.strip().endswith('python3.11 main.py --workdir=w')


def test_job_set():
  job_set = yaml.safe_load((LAUNCH / 'jobset.yaml').read_text())
  assert job_set['kind'] == 'JobSet'
  [slices] = job_set['spec']['replicatedJobs']
  job = slices['template']['spec']
  assert job['parallelism'] == job['completions']
  assert job['completionMode'] == 'Indexed'
  # A pod that ends is the whole run's, not its job's.
  assert job['backoffLimit'] == 0
  assert job_set['spec']['failurePolicy']['maxRestarts'] > 0
  pod = job['template']['spec']
  [container] = pod['containers']
  # Hosts times chips of each are the topology.
  topology = pod['nodeSelector']['cloud.google.com/gke-tpu-topology']
  rows, columns = map(int, topology.split('x'))
  chips = container['resources']['limits']['google.com/tpu']
  assert rows * columns == chips * job['parallelism']
  assert container['command'][:2] == ['python', 'main.py']
  for option in container['command'][2:]:
    if option.startswith('--config='):
      assert (ROOT / option.removeprefix('--config=')).exists()


def test_what_is_copied_to_a_worker_is_all_that_runs():
  dockerfile = (LAUNCH / 'Dockerfile').read_text()
  script = (LAUNCH / 'tpu_vm.sh').read_text()
  for name in ('main.py', 'train.py', 'configs', 'coatnet_jax'):
    assert (ROOT / name).exists()
    assert f' {name} ' in dockerfile
    assert f' {name} ' in script


def test_launchers_and_docs_know_the_status_of_a_run_that_was_stopped():
  status = stopping.STATUS
  assert f'-eq {status} ]' in (LAUNCH / 'slurm.sh').read_text()
  assert f'fails with {status} when' in (LAUNCH / 'jobset.yaml').read_text()
  assert f'| {status} | it was asked' in (ROOT / 'docs/pods.md').read_text()
