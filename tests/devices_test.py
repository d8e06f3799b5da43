"""The same numbers on one device and on eight."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Prints the losses of three steps and an evaluation, as JSON.
SCRIPT = """
import json, sys
import jax
import train
from coatnet_jax.data import batching
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.run import create_run
from configs import quickstart

fsdp, eval_batch_size, parts = map(int, sys.argv[1:])
config = quickstart.get_config()
config.model.stochastic_depth_rate = 0.3
config.mixup.mixup_alpha = 0.8
config.mixup.cutmix_alpha = 1.0
config.augmentation.randaugment_layers = 2
config.schedule.warmup_epochs = 0.0
config.training.num_epochs = 0.0
config.training.num_steps = 3
config.training.global_batch_size = 64
config.training.ema_decay = 0.5
config.training.gradient_accumulation_steps = parts
config.evaluation.global_batch_size = eval_batch_size
config.sharding.fsdp = fsdp
run = create_run(config)
create_state, abstract_state = abstract_train_state(run)
take_step = train.compile_train_step(run, abstract_state)
batches = batching.create_train_batches(
  run.train_source, data=run.data, preprocessing=run.preprocessing,
  augmentation=run.augmentation, global_batch_size=64, seed=run.seed)
state, losses = create_state(), []
for _ in range(3):
  batch = mesh_lib.put_batch(next(batches), run.mesh, ('image', 'label'))
  state, metrics = take_step(state, batch)
  losses.append(float(metrics['loss']))
batches.close()
largest = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
print(json.dumps({
  'devices': jax.device_count(), 'losses': losses,
  'evaluation': train.evaluate_run(run, state),
  'largest_is_divided': not largest.sharding.is_fully_replicated}))
"""


def _run(devices, fsdp=1, eval_batch_size=400, parts=1):
  env = {
    **os.environ,
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]}'
    f' --xla_force_host_platform_device_count={devices}',
    'PYTHONPATH': str(ROOT),
  }
  arguments = [str(n) for n in (fsdp, eval_batch_size, parts)]
  process = subprocess.run(
    [sys.executable, '-c', SCRIPT, *arguments],
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stderr[-3000:]
  return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def one_device():
  return _run(1)


@pytest.mark.parametrize(
  ('fsdp', 'eval_batch_size'),
  [
    (4, 72),
    pytest.param(1, 400, marks=pytest.mark.slow),
    pytest.param(8, 4096, marks=pytest.mark.slow),
  ],
)
def test_eight_devices_are_one(one_device, fsdp, eval_batch_size):
  result = _run(8, fsdp, eval_batch_size)
  assert (one_device['devices'], result['devices']) == (1, 8)
  assert result['losses'] == pytest.approx(one_device['losses'], rel=1e-5)
  assert result['largest_is_divided'] == (fsdp > 1)
  # Every example once, at any batch size.
  assert result['evaluation']['count'] == 2000
  assert one_device['evaluation']['count'] == 2000
  assert result['evaluation']['loss'] == pytest.approx(
    one_device['evaluation']['loss'], rel=1e-4
  )


@pytest.mark.slow
def test_parts_of_a_batch_are_divided_alike():
  expected = _run(1, parts=4)
  result = _run(8, fsdp=2, parts=4)
  assert result['losses'] == pytest.approx(expected['losses'], rel=1e-5)
