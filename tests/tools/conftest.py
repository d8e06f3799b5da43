"""A tiny run, and its evaluation images as files, for the tests of tools."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import cv2
import pytest

import train
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.sources import DataOptions, create_source
from tests.quick_configs import create_quick_config

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='session')
def config():
  """Returns the quick start's config, cut down to seconds."""
  return create_quick_config(
    {
      'model.name': 'coatnet_mini',
      'model.batch_norm_momentum': 0.5,
      'data.train_split': 'train[:2000]',
      'data.eval_split': 'test[:100]',
      # Resizes 28x28 to 32x32 and cuts the centre out.
      'preprocessing.eval_crop_fraction': 0.875,
      'training.num_steps': 12,
      'evaluation.every_steps': 6,
      'evaluation.global_batch_size': 50,
    }
  )


@pytest.fixture(scope='session')
def workdir(config, tmp_path_factory):
  """Returns the workdir of a finished run; not to be changed."""
  home = tmp_path_factory.mktemp('tools')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('HOME', str(home))
    # A name that every tool must take as it is.
    train.train_and_evaluate(config, '~/a run=[1-9]/')
  # Matplotlib and Keras keep hidden files there.
  assert [n for n in os.listdir(home) if n[0] != '.'] == ['a run=[1-9]']
  return home / 'a run=[1-9]'


@pytest.fixture(scope='session')
def best(workdir):
  """Returns step, top1, top5, loss and count of the best evaluation."""
  return json.loads((workdir / 'summary.json').read_text())['best']


@pytest.fixture(scope='session')
def eval_source(config):
  return create_source(DataOptions(**config.data), 'eval')


@pytest.fixture(scope='session')
def image_dir(eval_source, tmp_path_factory):
  """Returns a directory of the evaluation images, <number>_<label>.png."""
  directory = tmp_path_factory.mktemp('images')
  for index in range(len(eval_source)):
    image, label = decode_example(eval_source, index)
    cv2.imwrite(str(directory / f'{index:03}_{label}.png'), image[..., ::-1])
  return directory


@pytest.fixture
def damaged_workdir(workdir, tmp_path):
  """Returns a copy of the workdir whose checkpoints' arrays are cut off."""
  copy = tmp_path / 'damaged'
  shutil.copytree(workdir, copy)
  for path in copy.glob('checkpoints/*/state/ocdbt.process_0/d/*'):
    os.truncate(path, path.stat().st_size // 2)
  return copy


@pytest.fixture
def run_tool():
  """Returns a function that runs a tool as a person does."""

  def run(name, *arguments, cwd=ROOT):
    done = subprocess.run(
      [sys.executable, '-m', f'tools.{name}', *map(str, arguments)],
      cwd=cwd,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      capture_output=True,
      text=True,
      check=False,
      timeout=120,
    )
    # On a busy machine it is told what goes on.
    done.stderr = re.sub(
      r'^[A-Z][\w ,]*( \d+ s)?\n', '', done.stderr, flags=re.MULTILINE
    )
    return done

  return run
