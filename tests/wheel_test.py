"""What `pip install .` installs: the library, which works from any directory.

Training, tools and configs are a checkout's: README.md, "In code". So no
message of the library tells people to run what is not there, unless it says
where.
"""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WEIGHTS = ROOT / 'tests' / 'golden' / 'test_coatnet.safetensors'
# What is in a checkout alone.
OF_A_CHECKOUT = re.compile(
  r'\bmain\.py|\btrain\.py|\btools\.\w|\brequirements[-\w]*\.txt|\bconfigs/'
  r'|\bdocs/|\blaunch/'
)
SAID = 'in a checkout of the project'
# What only main.py, train.py and the tools reach: they are in a checkout.
OF_PROGRAMS = {
  'coatnet_jax.config_flag',
  'coatnet_jax.distributed.processes',
  'coatnet_jax.evaluation.results',
  'coatnet_jax.replay.replaying',
  'coatnet_jax.reports.end_of_run',
  'coatnet_jax.reports.facts',
  'coatnet_jax.run',
  'coatnet_jax.tpu_compiler.compiled_step',
  'coatnet_jax.training.reporting',
  'coatnet_jax.training.training_log',
}

# A program of somebody who has installed the library.
PROGRAM = """
import functools, importlib.util, json, sys
import jax, numpy as np
import coatnet_jax
from coatnet_jax import inference
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.sources import create_source
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.training.losses import LossOptions
from coatnet_jax.training.optimizers import create_optimizer
from coatnet_jax.training.schedules import create_learning_rate_schedule

model = coatnet_jax.create_model('test_coatnet', num_classes=1000)
variables = coatnet_jax.load_weights(model, sys.argv[1], image_size=(32, 32))
source = create_tfds_source('fashion_mnist_12k', '', 'test')
preprocessing = PreprocessingOptions(
  image_size=(32, 32),
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  eval_crop_fraction=1.0,
  eval_resize='cover',
  interpolation='bicubic',
)
predict = functools.partial(
  inference.predict_top_classes,
  model=model,
  loss=LossOptions(kind='softmax', label_smoothing=0.0),
  preprocessing=preprocessing,
  top=5,
)
classes, _ = jax.jit(predict)(variables, np.zeros((1, 32, 32, 3), np.uint8))
q = np.ones((1, 4, 1, 8), np.float32)
attend = functools.partial(coatnet_jax.relative_attention, grid=(2, 2))
jax.jit(attend)(q, q, q, np.zeros((1, 3, 3)))
print(json.dumps({
  'file': coatnet_jax.__file__,
  'classes': np.asarray(classes).tolist(),
  'images': len(source),
  'modules': [name for name in sys.modules if name.startswith('coatnet_jax')],
  'not_there': [
    name
    for name in ('tools', 'configs', 'main', 'train', 'tests')
    if importlib.util.find_spec(name)
  ],
}))
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> pathlib.Path:
  """Returns the wheel, built of a copy: building leaves folders behind."""
  folder = tmp_path_factory.mktemp('wheel')
  for name in ('pyproject.toml', 'README.md', 'LICENSE', 'requirements.txt'):
    shutil.copy(ROOT / name, folder / name)
  shutil.copytree(
    ROOT / 'coatnet_jax',
    folder / 'coatnet_jax',
    ignore=shutil.ignore_patterns('__pycache__'),
  )
  _pip('wheel', str(folder), '--no-build-isolation', f'--wheel-dir={folder}')
  (path,) = folder.glob('*.whl')
  return path


@pytest.fixture(scope='module')
def site(wheel) -> pathlib.Path:
  """Returns the directory that the wheel is installed in."""
  directory = wheel.parent / 'site'
  _pip('install', str(wheel), f'--target={directory}')
  return directory


@pytest.fixture(scope='module')
def found(site, tmp_path_factory) -> dict:
  """Returns what the program says that was run elsewhere."""
  process = subprocess.run(
    [sys.executable, '-P', '-c', PROGRAM, str(WEIGHTS)],
    cwd=tmp_path_factory.mktemp('elsewhere'),
    env={**os.environ, 'PYTHONPATH': str(site), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert process.returncode == 0, process.stderr
  return json.loads(process.stdout.splitlines()[-1])


def _pip(*arguments: str) -> None:
  process = subprocess.run(
    [sys.executable, '-m', 'pip', *arguments, '--no-deps', '--quiet'],
    capture_output=True,
    text=True,
    timeout=300,
    env={**os.environ, 'PIP_DISABLE_PIP_VERSION_CHECK': '1'},
  )
  assert process.returncode == 0, process.stderr


def test_it_is_the_library_alone(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {name.split('/')[0] for name in names} == {
    'coatnet_jax',
    f'{wheel.name.removesuffix("-py3-none-any.whl")}.dist-info',
  }
  files = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'coatnet_jax').rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
  }
  assert files <= set(names)
  # Without it a type checker takes nothing of an installed library.
  assert 'coatnet_jax/py.typed' in names


@pytest.mark.slow
def test_it_works_from_any_directory(found, site):
  assert pathlib.Path(found['file']).is_relative_to(site)
  assert found['not_there'] == []
  assert len(found['classes'][0]) == 5
  assert found['images'] == 2000


def test_messages_name_no_command_that_is_not_there(found, site):
  commands = {
    '.'.join(path.relative_to(site).with_suffix('').parts): texts
    for path in (site / 'coatnet_jax').rglob('*.py')
    if (texts := find_commands(path.read_text(encoding='utf-8')))
  }
  assert set(commands) == OF_PROGRAMS
  assert OF_PROGRAMS.isdisjoint(found['modules'])


def test_a_command_that_is_not_there_is_noticed():
  assert find_commands("x = f'{a}: run python -m tools.plan --{b}'")
  assert find_commands("x = 'see ' 'configs/base.py'")
  assert not find_commands(f"x = 'python -m tools.plan, {SAID}'")
  assert not find_commands("def f():\n  'See configs/base.py.'")


def find_commands(text: str) -> list[str]:
  """Returns texts of a module that name what only a checkout has."""
  nodes = list(ast.walk(ast.parse(text)))
  aside = set()  # Docstrings, and parts of a text that is looked at whole.
  for node in nodes:
    if isinstance(node, ast.Expr):
      aside.add(id(node.value))
    elif isinstance(node, ast.JoinedStr):
      aside.update(map(id, node.values))
  found = []
  for node in nodes:
    if id(node) in aside:
      continue
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    said = ''.join(
      part.value
      for part in parts
      if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    if OF_A_CHECKOUT.search(said) and SAID not in said:
      found.append(said)
  return found
