"""The same numbers on one device and on several, however they are arranged."""

import pytest

from tests import virtual_devices

# Prints the losses of five steps, an evaluation and the compiled step's
# collectives, as JSON.
SCRIPT = """
import json, re, sys
import jax
import train
from coatnet_jax.data import batching
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.run import create_run
from tests import processes_config
from tests.quick_models import SHARDABLE, add_variant

add_variant('shardable', SHARDABLE)
config = processes_config.get_config()
config.model.name = 'shardable'
config.training.global_batch_size = 64
config.data.eval_split = 'test[:500]'
config.update_from_flattened_dict(json.loads(sys.argv[1]))
run = create_run(config)
create_state, abstract_state = abstract_train_state(run)
take_step = train.compile_train_step(run, abstract_state)
batches = batching.create_train_batches(
  run.train_source, data=run.data, preprocessing=run.preprocessing,
  augmentation=run.augmentation, global_batch_size=64, seed=run.seed)
state, losses = create_state(), []
for _ in range(5):
  batch = mesh_lib.put_batch(next(batches), run.mesh, ('image', 'label'))
  state, metrics = take_step(state, batch)
  losses.append(float(metrics['loss']))
batches.close()
largest = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
print(json.dumps({
  'devices': jax.device_count(), 'losses': losses,
  'evaluation': train.evaluate_run(run, state),
  'largest_is_divided': not largest.sharding.is_fully_replicated,
  'collectives': sorted(set(re.findall(
    r' (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)'
    r'(?:-start)?[(]', take_step.as_text())))}))
"""

# Compiles the logits in training, of 64 images on all devices; prints how many
# collectives they take, as JSON.
LOGITS = """
import json, re, sys
import jax, jax.numpy as jnp
from coatnet_jax import create_model
from coatnet_jax.distributed import mesh as mesh_lib
from tests.quick_models import SHARDABLE, add_variant

add_variant('shardable', SHARDABLE)
model = create_model(
  'shardable', num_classes=10,
  batch_norm_group_size=json.loads(sys.argv[1])['group_size'])
mesh = mesh_lib.create_mesh(
  replica=1, data=jax.device_count(), fsdp=1, tensor=1)
images = jax.ShapeDtypeStruct(
  (64, 28, 28, 3), jnp.float32, sharding=mesh_lib.create_batch_sharding(mesh))
variables = jax.tree.map(
  lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=mesh_lib.create_replicated_sharding(mesh)),
  jax.eval_shape(lambda: model.init(
    jax.random.key(0), jnp.zeros((1, 28, 28, 3)), train=False)))

def compute_logits(variables, images):
  return model.apply(
    variables, images, train=True, mutable=['batch_stats'],
    rngs={'dropout': jax.random.key(0)})[0]

compiled = mesh_lib.jit(
  compute_logits, mesh, out_shardings=mesh_lib.create_batch_sharding(mesh)
).lower(variables, images).compile()
print(json.dumps(len(re.findall(
  r' (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)'
  r'(?:-start)?[(]', compiled.as_text()))))
"""


def _run(devices, **overrides):
  overrides = {'evaluation.global_batch_size': 240, **overrides}
  return virtual_devices.run_script(SCRIPT, devices, overrides)


@pytest.fixture(scope='module')
def one_device():
  return _run(1)


def _check_same(result, expected, num_devices):
  assert result['devices'] == num_devices
  assert result['losses'] == pytest.approx(expected['losses'], rel=1e-5)
  # Every example once, at any batch size.
  assert result['evaluation']['count'] == 500
  assert expected['evaluation']['count'] == 500
  assert result['evaluation']['loss'] == pytest.approx(
    expected['evaluation']['loss'], rel=1e-4
  )


@pytest.mark.slow
@pytest.mark.rotating
def test_all_axes_of_a_mesh_are_one_device(one_device):
  result = _run(
    8,
    **{
      'sharding.fsdp': 2,
      'sharding.tensor': 2,
      'model.scan_blocks': True,
      'model.remat': 'expansions',
      'evaluation.global_batch_size': 72,
    },
  )
  _check_same(result, one_device, 8)
  assert result['largest_is_divided']


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('fsdp', [1, 2, 4, 8])
def test_eight_devices_are_one(one_device, fsdp):
  result = _run(
    8, **{'sharding.fsdp': fsdp, 'evaluation.global_batch_size': 1000 * fsdp}
  )
  _check_same(result, one_device, 8)
  assert result['largest_is_divided'] == (fsdp > 1)
  if fsdp == 1:
    # The second passes MixUp's partner on: one image from device to device.
    assert result['collectives'] == ['all-reduce', 'collective-permute']


@pytest.mark.slow
@pytest.mark.rotating
def test_two_devices_and_two_replicas_are_one(one_device):
  _check_same(_run(2), one_device, 2)
  _check_same(
    _run(8, **{'sharding.replica': 2, 'sharding.fsdp': 2}), one_device, 8
  )


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'model.batch_norm_group_size': 8, 'mixup.group_size': 8},
    {'training.gradient_accumulation_steps': 2},
    {
      'training.gradient_accumulation_steps': 2,
      'model.batch_norm_group_size': 4,
      'optimizer.frozen': ('s1_block_0',),
    },
    # Groups on two devices each, which is the compiler's affair.
    {'model.batch_norm_group_size': 16},
  ],
)
def test_two_slices_are_one_device(one_device, changes):
  expected = _run(1, **changes) if changes else one_device
  _check_same(_run(8, **changes, **{'sharding.replica': 2}), expected, 8)


@pytest.mark.slow
@pytest.mark.rotating
def test_a_plain_step_of_data_parallelism_only_reduces():
  result = _run(8, **{'mixup.mixup_alpha': 0.0, 'mixup.cutmix_alpha': 0.0})
  assert result['collectives'] == ['all-reduce']


@pytest.mark.slow
@pytest.mark.rotating
def test_groups_of_batch_norm_are_the_same_on_any_mesh():
  groups = {'model.batch_norm_group_size': 8}
  expected = _run(1, **groups)
  _check_same(_run(8, **groups), expected, 8)
  _check_same(_run(8, **groups, **{'sharding.tensor': 2}), expected, 8)
  # A group on two devices.
  _check_same(
    _run(8, **{'model.batch_norm_group_size': 16}),
    _run(1, **{'model.batch_norm_group_size': 16}),
    8,
  )


@pytest.mark.slow
def test_a_group_on_one_device_needs_no_other():
  assert virtual_devices.run_script(LOGITS, 8, {'group_size': 8}) == 0
  # Statistics over two devices, and over all.
  assert virtual_devices.run_script(LOGITS, 8, {'group_size': 16}) > 0
  assert virtual_devices.run_script(LOGITS, 8, {'group_size': 0}) > 0


@pytest.mark.slow
@pytest.mark.rotating
def test_parts_of_a_batch_are_divided_alike():
  parts = {'training.gradient_accumulation_steps': 4}
  expected = _run(1, **parts)
  result = _run(8, **parts, **{'sharding.fsdp': 2})
  assert result['losses'] == pytest.approx(expected['losses'], rel=1e-5)
