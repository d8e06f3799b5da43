"""Plans of a small network: what has to be true of every plan."""

import pytest

pytestmark = [pytest.mark.tpu_compiler, pytest.mark.timeout(1200)]

IMAGES_PER_CHIP = 16
SIZES = {'v5e-4': 4, 'v5e-32': 32, 'v5e-256': 256}


@pytest.fixture(scope='module')
def run_plan(run_python):
  """Returns a function that plans the small network on a slice."""

  def run(topology, *arguments):
    return run_python(
      *('-m', 'tools.plan', '--json', f'--topology={topology}'),
      '--config=tests/tpu_compiler/tiny_config.py',
      *('--train_examples=50000', '--num_classes=10'),
      *arguments,
    )

  return run


@pytest.fixture(scope='module')
def plans(run_plan):
  """Returns plans of data parallelism alone, as many images on each chip."""
  return {
    topology: run_plan(
      topology,
      f'--config.training.global_batch_size={IMAGES_PER_CHIP * chips}',
    )
    for topology, chips in SIZES.items()
  }


def test_parts_sum_up(plans):
  for topology, plan in plans.items():
    assert plan['num_chips'] == SIZES[topology]
    assert plan['per_chip_batch_size'] == IMAGES_PER_CHIP
    assert plan['cycles'] == sum(plan['cycles_by_stage'].values())
    assert plan['cycles'] == sum(plan['cycles_by_kind'].values())
    assert plan['needed_bytes'] == sum(plan['memory'].values())
    assert plan['needed_bytes'] < plan['available_bytes']
    # Parameters and two moments of AdamW, float32, whole on every chip.
    parameters = plan['memory']['parameters']
    assert parameters == 4 * plan['num_parameters']
    assert 0 <= plan['memory']['optimizer state'] - 2 * parameters < 100
    images = IMAGES_PER_CHIP * (64 * 64 * 3 + 4)
    assert plan['memory']['batch'] == images
    steps = 10 * 50_000 // (IMAGES_PER_CHIP * SIZES[topology])
    assert abs(plan['num_steps'] - steps) <= 1


def test_cycles_are_where_the_layers_are(plans):
  plan = plans['v5e-4']
  assert plan['kernel_cycles'] > 0
  assert plan['cycles_by_stage']['s1'] > plan['cycles_by_stage']['head'] > 0
  assert plan['cycles_by_stage']['s2'] > 0
  assert plan['cycles_by_stage']['s3'] == 0
  assert plan['cycles_by_stage']['rest'] < 0.05 * plan['cycles']
  for kind in (
    *('attention', 'FFN', '1x1 convolutions', 'depthwise convolutions'),
    *('squeeze-excitation', 'norms', 'stem convolutions', 'optimizer'),
  ):
    assert plan['cycles_by_kind'][kind] > 0
  # What is trained is three times what is computed forward; without kernels,
  # and with what is elementwise.
  flops = 3 * plan['forward_flops_per_image']
  assert 0.5 * flops < plan['compiler_flops_per_image'] < 1.5 * flops


def test_plain_data_parallelism_only_sums(plans):
  for plan in plans.values():
    assert set(plan['collectives']) == {'all-reduce'}
    # Every gradient once, as bfloat16 or float32, and BatchNorm's statistics.
    sums = plan['collectives']['all-reduce']
    parameters = plan['num_parameters']
    assert 2 * parameters < sums['bytes'] < 4 * parameters + 50_000


def test_divided_parameters_are_gathered_and_activations_are_not(run_plan):
  plan = run_plan(
    'v5e-16',
    f'--config.training.global_batch_size={IMAGES_PER_CHIP * 16}',
    '--config.sharding.fsdp=16',
  )
  parameters = 4 * plan['num_parameters']
  assert plan['memory']['parameters'] < parameters / 4
  assert 'all-to-all' not in plan['collectives']
  # Forward, backward, and what may be gathered in pieces. The maps of one
  # convolution are more than all that.
  moved = sum(
    plan['collectives'].get(kind, {'bytes': 0})['bytes']
    for kind in ('all-gather', 'collective-permute')
  )
  assert moved < 4 * parameters


def test_weak_scaling(plans):
  """As many images on each chip: the same cycles, and the same exchanged."""
  small, *larger = plans.values()
  for plan in larger:
    assert plan['cycles'] == pytest.approx(small['cycles'], rel=0.03)
    assert plan['collectives']['all-reduce']['bytes'] == pytest.approx(
      small['collectives']['all-reduce']['bytes'], rel=0.01
    )
    assert plan['needed_bytes'] == pytest.approx(
      small['needed_bytes'], rel=0.03
    )


@pytest.mark.rotating
@pytest.mark.parametrize('group', [0, 128])
def test_two_slices_take_as_long_as_one(run_python, group):
  one, two = (
    run_python(
      *('-m', 'tools.plan', '--json', *slices),
      '--config=tests/tpu_compiler/one_stage_config.py',
      f'--config.training.global_batch_size={128 * 8}',
      f'--config.model.batch_norm_group_size={group}',
      f'--config.mixup.group_size={group}',
    )
    for slices in (['--topology=v5e-8'], ['--topology=v5e-4', '--slices=2'])
  )
  assert two['cycles'] <= 1.05 * one['cycles']
  between = [kind for kind in two['collectives'] if 'between slices' in kind]
  if group:
    # Gradients with the loss, and running statistics.
    assert set(between) == {
      'all-reduce between slices',
      'all-gather between slices',
    }
    sums = two['collectives']['all-reduce between slices']
    # All at once, in few pieces. A chip sends the quarter of its slice's.
    assert sums['count'] < 10
    assert sums['bytes'] < 1.1 * two['num_parameters']
  else:
    assert 'all-reduce between slices' in between
