"""Writes the golden files that our models are compared with timm's by.

    python -m tests.golden.make_timm_golden

Run from the root of the repository, with torch and timm installed
(requirements-parity.txt). Running it twice gives the same bytes; another kind
of CPU gives other last digits.

- timm_state_dicts.json.gz: of each of timm's CoAtNets the number of parameters
  and the state dict's keys and shapes; and those of the small one (below).
- timm_small.safetensors: what a small model of the same form gives for fixed
  weights and images (timm_cases.py): as NAME/KEY of
  `timm_models.compute_outputs`, each map as its means over positions and as
  samples of it.
- test_coatnet.safetensors: a whole state dict as timm saves it.
- test_coatnet_expected.safetensors: its 'logits' for two images, and the
  'losses' of twenty batches of training that starts from it.
"""

import gzip
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

from tests.golden import timm_cases
from tests.parity import timm_models

FOLDER = pathlib.Path(__file__).parent


def create_state_dicts() -> dict:
  """Returns what timm_state_dicts.json.gz holds."""
  state_dicts = {}
  for name in timm_cases.NAMES:
    model = timm_models.create_meta_model(name)
    small = timm_models.create_meta_model(
      name, **timm_models.get_small_overrides(name)
    )
    state_dicts[name] = {
      'num_parameters': timm_models.count_parameters(model),
      'shapes': timm_models.get_shapes(model),
      'small_shapes': timm_models.get_shapes(small),
    }
  return state_dicts


def compute_small_outputs(name: str) -> dict[str, np.ndarray]:
  """Returns what timm's small model of a form gives, maps whole."""
  overrides = timm_models.get_small_overrides(name)
  shapes = timm_models.get_shapes(
    timm_models.create_meta_model(name, **overrides)
  )
  state = timm_cases.randomise_state(shapes)
  images = timm_cases.create_images(2, timm_cases.SMALL_IMAGE_SIZE)
  return timm_models.compute_outputs(
    timm_models.create_model(name, state, **overrides),
    timm_cases.normalise(images),
  )


def create_small() -> dict[str, np.ndarray]:
  """Returns what timm_small.safetensors holds."""
  small = {}
  for name in timm_cases.NAMES:
    for key, value in compute_small_outputs(name).items():
      if key.startswith('maps/'):
        for part, array in timm_cases.summarise_map(value).items():
          small[f'{name}/{key}/{part}'] = array
      else:
        small[f'{name}/{key}'] = value
  return small


def create_test_coatnet() -> tuple[dict, dict]:
  """Returns what the two files of test_coatnet hold."""
  start = timm_models.create_start_of_training()
  # Copies: training changes the weights that it is given.
  copies = [{key: value.copy() for key, value in start.items()} for _ in '12']
  images = timm_cases.normalise(timm_cases.create_images(2, (160, 160)))
  outputs = timm_models.compute_outputs(
    timm_models.create_model('test_coatnet', copies[0]), images
  )
  losses = timm_models.train(
    timm_models.create_model('test_coatnet', copies[1]),
    timm_cases.create_train_batches(),
    **timm_cases.TRAINING,
  )
  return start, {'logits': outputs['logits'], 'losses': losses}


def main(folder: pathlib.Path = FOLDER) -> None:
  """Writes all files."""
  torch.set_num_threads(1)
  text = json.dumps(create_state_dicts(), separators=(',', ':'))
  (folder / 'timm_state_dicts.json.gz').write_bytes(
    gzip.compress(text.encode(), mtime=0)
  )
  save_file(create_small(), folder / 'timm_small.safetensors')
  start, expected = create_test_coatnet()
  save_file(start, folder / 'test_coatnet.safetensors')
  save_file(expected, folder / 'test_coatnet_expected.safetensors')


if __name__ == '__main__':
  main(*map(pathlib.Path, sys.argv[1:]))
