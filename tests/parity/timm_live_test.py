"""Our models against timm's, run by PyTorch here and now, at their full sizes.

Needs requirements-parity.txt:

    python -m pytest -m parity --numprocesses=0 tests/parity

Without torch or timm these tests fail; none is skipped.
"""

import gzip
import json

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import coatnet_jax
from coatnet_jax.weights import timm
from tests.golden import timm_cases, timm_training
from tests.golden.timm_comparison import (
  assert_close,
  assert_running_statistics_close,
)

pytestmark = pytest.mark.parity

# As a part of the range: ten times finer than what is asked.
TOLERANCE = 1e-5


@pytest.fixture
def timm_models():
  """What needs torch: imported by those tests alone that are run."""
  from tests.parity import timm_models

  return timm_models


@pytest.fixture
def make_golden(timm_models):
  """The script that writes the golden files."""
  from tests.golden import make_timm_golden

  return make_timm_golden


def run_ours(model, variables, images):
  """Returns logits, maps and the running statistics after a step."""

  @jax.jit
  def evaluate(variables, images):
    logits, sown = model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    return logits, sown['intermediates']

  @jax.jit
  def take_step(variables, images):
    return model.apply(variables, images, train=True, mutable=['batch_stats'])[
      1
    ]

  return jax.device_get(
    (*evaluate(variables, images), take_step(variables, images))
  )


def assert_written_as_read(path, written):
  """Compares what we write for timm with timm's own file, number by number."""
  with safe_open(path, framework='numpy') as theirs:
    assert set(written) == set(theirs.keys())
    for name in written:
      if not name.endswith(timm.IGNORED):
        np.testing.assert_array_equal(
          written[name], theirs.get_tensor(name), err_msg=name
        )


@pytest.mark.rotating
@pytest.mark.parametrize('name', timm_cases.NAMES)
def test_outputs_and_running_statistics_are_timms(name, tmp_path, timm_models):
  size = timm_cases.get_image_size(name)
  images = timm_cases.create_images(2, size)
  images = timm_cases.normalise(images)
  shapes = timm_models.get_shapes(timm_models.create_meta_model(name))
  state = timm_cases.randomise_state(shapes)
  path = tmp_path / f'{name}.safetensors'
  save_file(state, path)
  expected = timm_models.compute_outputs(
    timm_models.create_model(name, state), images
  )
  # The largest have 2.7 GB of weights: one copy at a time.
  del state

  model = coatnet_jax.create_model(
    name,
    batch_norm_momentum=0.9,
    transformer={'relative_position_mlp_dropout': 0.0},
  )
  assert model.variant.image_size == size
  variables = coatnet_jax.load_weights(model, path)
  assert_written_as_read(path, timm.to_state_dict(variables, model.variant))
  path.unlink()
  logits, maps, updates = run_ours(model, variables, images)
  assert logits.shape == (2, 1000)
  assert_close(logits, expected['logits'], 'logits', tolerance=TOLERANCE)
  for map_name in timm_cases.MAP_NAMES:
    theirs = expected[f'maps/{map_name}']
    assert_close(maps[map_name], theirs, map_name, tolerance=TOLERANCE)
  assert_running_statistics_close(
    updates,
    variables,
    expected,
    timm.naming(model.variant),
    tolerance=TOLERANCE,
  )


def test_training_loses_what_timms_model_loses(tmp_path, timm_models):
  start = timm_models.create_start_of_training()
  path = tmp_path / 'test_coatnet.safetensors'
  save_file(start, path)
  expected = timm_models.train(
    timm_models.create_model('test_coatnet', start),
    timm_cases.create_train_batches(),
    **timm_cases.TRAINING,
  )
  losses = timm_training.train_test_coatnet(path)
  assert len(expected) == 20
  assert expected[-1] < 0.6 * expected[0]
  np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_golden_files_are_what_the_script_writes(tmp_path, make_golden):
  make_golden.main(tmp_path)
  name = 'timm_state_dicts.json.gz'
  written, golden = (
    json.loads(gzip.decompress((folder / name).read_bytes()))
    for folder in (tmp_path, make_golden.FOLDER)
  )
  assert written == golden
  for name in (
    'timm_small.safetensors',
    'test_coatnet.safetensors',
    'test_coatnet_expected.safetensors',
  ):
    written, golden = (
      load_file(folder / name) for folder in (tmp_path, make_golden.FOLDER)
    )
    assert written.keys() == golden.keys()
    for key, array in golden.items():
      # Another kind of CPU adds up in another order.
      np.testing.assert_allclose(
        written[key], array, rtol=1e-4, atol=1e-5, err_msg=f'{name}: {key}'
      )
