"""A file that timm makes, finetuned on a folder: what it starts from is timm's.

As `timm_live_test.py`, which says how to run it.
"""

import cv2
import jax
import numpy as np
import pytest

import train
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.config_flag import load_config
from coatnet_jax.initial_state import prepare_train_state
from coatnet_jax.run import create_run
from coatnet_jax.training.image_normalization import normalize_images
from configs import finetune_folder
from tests.golden import timm_cases
from tests.golden.timm_comparison import assert_close

pytestmark = pytest.mark.parity

NAME = 'coatnet_nano_rw_224'
CLASSES = ('ant', 'bee', 'cat')
# As a part of the range.
TOLERANCE = 1e-5


@pytest.fixture(scope='module')
def timm_models():
  """What needs torch: imported by those tests alone that are run."""
  from tests.parity import timm_models

  return timm_models


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """A folder of pictures of three colours."""
  folder = tmp_path_factory.mktemp('pictures')
  rng = np.random.default_rng(0)
  for channel, name in enumerate(CLASSES):
    (folder / name).mkdir()
    for number in range(6):
      pixels = rng.integers(0, 120, (240, 300, 3), np.uint8)
      pixels[..., channel] += 120
      assert cv2.imwrite(str(folder / name / f'{number}.png'), pixels)
  return folder


@pytest.fixture(
  scope='module', params=[1000, len(CLASSES)], ids=lambda n: f'{n} classes'
)
def their_model(request, timm_models):
  """timm's model for a number of classes, with random weights."""
  overrides = {'num_classes': request.param}
  shapes = timm_models.get_shapes(
    timm_models.create_meta_model(NAME, **overrides)
  )
  state = timm_cases.randomise_state(shapes)
  return timm_models.create_model(NAME, state, **overrides).eval()


@pytest.fixture(params=['safetensors', 'pth'])
def weights(request, their_model, tmp_path):
  """A file that timm's users have, made by torch."""
  import safetensors.torch
  import torch

  path = tmp_path / f'finetuned.{request.param}'
  state = {
    k: v.clone().contiguous() for k, v in their_model.state_dict().items()
  }
  if request.param == 'pth':
    torch.save(state, path)
  else:
    safetensors.torch.save_file(state, path)
  return path


def _load_config(weights, pictures, *changes):
  return load_config(
    finetune_folder.__file__,
    [
      f'--config.init_from={weights}',
      f'--config.data.data_dir={pictures}',
      *changes,
    ],
  )


def test_what_it_starts_from_is_timms(weights, their_model, pictures, tmp_path):
  import torch

  run = create_run(
    _load_config(weights, pictures), workdir=str(tmp_path / 'run')
  )
  # As timm's own configuration of the model says.
  theirs = their_model.pretrained_cfg
  assert run.model_name == NAME
  assert (3, *run.preprocessing.image_size) == theirs['input_size']
  assert run.preprocessing.mean == theirs['mean']
  assert run.preprocessing.std == theirs['std']
  assert run.preprocessing.eval_crop_fraction == theirs['crop_pct']
  assert run.preprocessing.interpolation == theirs['interpolation']
  assert run.train_source.class_names == CLASSES

  create_state, _, lines = prepare_train_state(run, str(tmp_path / 'run'))
  state = create_state()
  images = timm_cases.create_images(4, run.preprocessing.image_size)
  normalised = normalize_images(
    images, mean=run.preprocessing.mean, std=run.preprocessing.std
  )
  shape = (3, 1, 1)
  inputs = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
  inputs -= np.reshape(np.float32(theirs['mean']), shape)
  inputs /= np.reshape(np.float32(theirs['std']), shape)
  with torch.inference_mode():
    maps = their_model.forward_features(torch.from_numpy(inputs))
    features = their_model.forward_head(maps, pre_logits=True).numpy()
    logits = their_model.forward_head(maps).numpy()

  # What the logits are computed from, whoever's head comes after it.
  ours, sown = jax.jit(
    lambda variables, images: run.model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
  )(state.variables, normalised)
  found = sown['intermediates']['pre_logits']
  assert_close(found, features, 'features', tolerance=TOLERANCE)
  assert ours.shape == (4, len(CLASSES))
  is_kept = logits.shape == ours.shape
  if is_kept:
    assert_close(ours, logits, 'logits', tolerance=TOLERANCE)
  assert is_kept != any('newly initialised' in line for line in lines)


@pytest.mark.parametrize(
  ('their_model', 'weights'), [(1000, 'pth')], indirect=True
)
def test_two_epochs_of_a_folder(weights, pictures, tmp_path):
  workdir = tmp_path / 'run'
  config = _load_config(
    weights,
    pictures,
    '--config.training.num_epochs=2',
    '--config.training.global_batch_size=5',
    '--config.evaluation.every_epochs=0',
    '--config.data.num_threads=2',
  )
  state = train.train_and_evaluate(config, str(workdir))
  assert int(state.step) == 6
  trained = load_trained_model(workdir)
  assert trained.class_names == CLASSES
  assert trained.preprocessing.image_size == (224, 224)
  assert trained.preprocessing.mean == (0.5, 0.5, 0.5)
  assert trained.model.num_classes == len(CLASSES)
  assert (workdir / 'summary.json').exists()
