"""The samples of README.md and docs/ do what is written beside them.

Models are small ones in place of those that are named, whose arguments are
checked all the same; files of weights and a workdir are made.
"""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import coatnet_jax
import main
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.config_flag import load_config, parse_with_config
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.run import create_run
from coatnet_jax.weights import timm
from tests import documents
from tests.documents import ROOT, Block
from tests.quick_configs import create_quick_config
from tests.weights import hub_stand_in
from tools import import_timm, prepare, variants

SAMPLES = documents.find_blocks('python')
NAME = 'test_coatnet'
WEIGHTS = ('coatnet_0_rw_224.sw_in1k.safetensors', 'FILE.safetensors')
# The numbers of a sample -> those of its test.
SMALLER = {
  '(8, 224, 224, 3)': '(2, 32, 32, 3)',
  '(1, 224, 224, 3)': '(1, 32, 32, 3)',
  '(224, 224)': '(32, 32)',
}
create_model = coatnet_jax.create_model
SMALL = functools.partial(create_model, NAME, image_size=(32, 32))


@pytest.fixture
def samples_at_hand(tmp_path, monkeypatch):
  """Goes to a directory with what samples read, and makes models small."""
  monkeypatch.chdir(tmp_path)

  def create_small(name, **options):
    whole = create_model(name, **options)
    return SMALL(num_classes=whole.num_classes, feature_maps=whole.feature_maps)

  monkeypatch.setattr(coatnet_jax, 'create_model', create_small)
  model = SMALL(num_classes=1000)
  ones = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, np.float32),
    abstract_variables(model, (32, 32)),
  )
  for name in WEIGHTS:
    save_file(timm.to_state_dict(ones, model.variant), tmp_path / name)


def _make_smaller(text):
  for old, new in SMALLER.items():
    text = text.replace(old, new)
  return text


@pytest.mark.usefixtures('samples_at_hand')
@pytest.mark.parametrize(
  'block',
  [
    pytest.param(
      block,
      id=block.name,
      # What pages beside README.md compute takes longer than it is worth daily.
      marks=[pytest.mark.slow]
      if block.page != 'README.md' and '.apply(' in block.text
      else [],
    )
    for block in SAMPLES
    # Those of onnxruntime are run by tests/export/runtimes_test.py.
    if 'WORKDIR' not in block.text and 'onnxruntime' not in block.text
  ],
)
def test_a_sample_runs_by_itself(block: Block):
  names = {}
  code = compile(_make_smaller(block.text), block.name, 'exec')
  exec(code, names)
  # What it says of a shape.
  classes = re.search(r'logits = .*# \[8, (\d+)\]', block.text)
  if classes:
    assert names['logits'].shape == (2, int(classes[1]))
  for name in ('logits', 'maps'):
    if name in names:
      assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(names[name])
      )


@pytest.mark.slow
@pytest.mark.rotating
def test_a_sample_of_evaluation_runs_by_itself(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (block,) = [block for block in SAMPLES if 'WORKDIR' in block.text]
  config = create_quick_config(
    {
      'model.name': 'coatnet_mini',
      'data.source': 'synthetic',
      'data.synthetic_examples': 16,
      'training.num_steps': 1,
      'training.global_batch_size': 8,
    }
  )
  import train

  train.train_and_evaluate(config, str(tmp_path / 'WORKDIR'))
  text = block.text.replace('(384, 384)', '(32, 32)').replace('256', '8')
  names = {}
  exec(compile(text, block.name, 'exec'), names)
  assert names['figures']['count'] == 16


def test_samples_are_found():
  assert len(SAMPLES) > 6
  assert any('load_weights' in block.text for block in SAMPLES)


def _commands(page, wanted):
  """Returns the commands of the one block of a page that has a text."""
  (block,) = [
    block
    for block in documents.find_blocks('bash')
    if block.page == page and wanted in block.text
  ]
  return documents.split_commands(block.text)


def test_the_sample_of_finetuning_has_all_that_is_taken_over():
  """The lines that `follow_init_from` says of the quick start's model."""
  saved, config = (
    load_config(f'{ROOT}/configs/{name}.py', [])
    for name in ('quickstart', 'finetune_folder')
  )
  taken = []
  for key, _ in config.follow_init_from:
    section, _, name = key.partition('.')
    if saved[section][name] != config[section][name]:
      taken.append(f'config.{key}: {saved[section][name]}, as it was trained')
  (block,) = [
    block
    for block in documents.find_blocks('')
    if block.page == 'docs/your_pictures.md' and 'init_from' in block.text
  ]
  lines = [line.strip() for line in block.text.splitlines()]
  assert [line for line in lines if 'as it was trained' in line] == taken


def test_the_sample_of_an_export_has_every_line():
  """As `tools.export` prints them, but for the numbers."""
  from tests.export.parity_test import GOOD
  from tools import export

  seconds = {1: 1.0, 16: 1.0}
  parity = dataclasses.replace(
    GOOD, runtime='jax 0.0.0', seconds=seconds, own_seconds=seconds
  )
  (block,) = [
    block
    for block in documents.find_blocks('')
    if block.page == 'docs/your_pictures.md' and 'Read back' in block.text
  ]
  first, _, rest = block.text.rstrip().partition('\n')
  # A relative --out is shown as the whole path.
  assert first.startswith('/')
  number = re.compile(r'\d[\d.,]*(?:e-\d+)?')
  assert number.sub('N', rest) == number.sub(
    'N', export.describe_parity(parity)
  )


def _write_pictures(folder, count, size):
  """Writes pictures of two classes, of noise, as many of each."""
  rng = np.random.default_rng(0)
  for name in ('cat', 'dog'):
    (folder / name).mkdir(parents=True)
    for number in range(count):
      pixels = rng.integers(0, 256, (*size, 3), np.uint8)
      assert cv2.imwrite(str(folder / name / f'{number}.png'), pixels)


def test_what_is_prepared_can_be_trained_on(tmp_path, monkeypatch):
  _write_pictures(tmp_path / 'IMAGES', 20, (9, 8))
  preparing, training = _commands('docs/data.md', '--config.data.source=tfds')
  monkeypatch.chdir(tmp_path)
  assert prepare.main([*preparing[3:], '--num_workers=1']) == 0
  config = load_config(
    f'{ROOT}/configs/image_folder.py',
    [word for word in training if word.startswith('--config.')],
  )
  run = create_run(config)
  assert run.train_source.class_names == ('cat', 'dog')
  assert len(run.train_source) + len(run.eval_source) == 40
  assert 0 < len(run.eval_source) < 20


@pytest.mark.slow
@pytest.mark.rotating
def test_variants_lists_what_it_is_asked_for(capsys):
  (words, *_) = _commands('README.md', 'tools.variants')
  assert variants.main(words[3:]) == 0
  printed = capsys.readouterr().out
  assert 'coatnet_2_head64' in printed
  assert 'coatnet_1' not in printed


@pytest.mark.slow
@pytest.mark.rotating
def test_the_one_command_finetunes_by_file_and_by_name(tmp_path):
  """README.md's line as it is typed, then by name, then offline by name."""
  ((*words, _),) = [
    words
    for words in documents.split_commands(
      '\n'.join(block.text for block in documents.find_blocks('bash'))
    )
    if words[2:3] == ['--config=configs/finetune_folder.py']
    and words[-1] == '--workdir=runs/mine'
    and WEIGHTS[0] in words[4]
  ][:1]
  _write_pictures(tmp_path / 'FOLDER', 40, (40, 50))
  golden = ROOT / 'tests' / 'golden' / f'{NAME}.safetensors'
  shutil.copy(golden, tmp_path / WEIGHTS[0])
  words = [w.replace('=configs', f'={ROOT}/configs') for w in words[2:]]
  quick = ('--config.training.num_epochs=1', '--config.data.num_threads=1')

  def finetune(start, workdir, **variables):
    command = [sys.executable, str(ROOT / 'main.py'), *words, *quick]
    command += [f'--workdir={workdir}', '--compilation_cache=cache']
    if start:
      command.append(f'--config.init_from={start}')
    result = subprocess.run(
      command,
      cwd=tmp_path,
      env=os.environ | {'HF_HOME': str(tmp_path / 'hub')} | variables,
      capture_output=True,
      text=True,
    )
    assert result.returncode == 0, result.stderr
    assert f'model       {NAME}' in result.stdout
    assert '1,000 classes replaced by 2, newly initialised' in result.stdout
    return load_trained_model(tmp_path / workdir)

  first = finetune('', 'runs/mine')
  assert first.preprocessing.eval_resize == 'timm'
  name = f'timm/{NAME}.r160_in1k'
  with hub_stand_in.serve(name, golden.read_bytes()) as server:
    finetune(name, 'second', HF_ENDPOINT=server.address)
  third = finetune(name, 'third', HF_HUB_OFFLINE='1')
  jax.tree.map(np.testing.assert_array_equal, third.variables, first.variables)


@pytest.mark.slow
@pytest.mark.rotating
def test_the_commands_of_an_import_run(tmp_path, monkeypatch, capsys):
  """What `import_timm` prints, typed as it stands but for the placeholders."""
  from tools import evaluate, predict

  model = create_model(NAME, num_classes=2)
  variables = model.init(
    jax.random.key(0), np.zeros((1, 160, 160, 3), np.float32), train=False
  )
  weights = tmp_path / 'weights.safetensors'
  save_file(timm.to_state_dict(variables, model.variant), weights)
  out = tmp_path / "imported 'weights'"
  rng = np.random.default_rng(0)
  images = tmp_path / 'FOLDER'
  for name in ('0', '1'):
    (images / name).mkdir(parents=True)
    for number in range(40):
      pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
      assert cv2.imwrite(str(images / name / f'{number}.png'), pixels)
  import_timm.main(
    [f'--variant={NAME}', f'--weights={weights}', f'--out={out}']
    + ['--image_size=32']
  )
  printed = capsys.readouterr().out
  commands = documents.split_commands(
    '\n'.join(
      line[line.index('python ') :]
      for line in printed.splitlines()
      if 'python ' in line
    )
  )
  evaluating, predicting, finetuning = commands
  words = [w.replace('FOLDER', str(images)) for w in evaluating[3:]]
  assert evaluate.main([*words, '--batch_size=16']) == 0
  (path, *_) = images.rglob('*.png')
  words = [str(path) if w == 'IMAGE...' else w for w in predicting[3:]]
  assert predict.main(words) == 0
  monkeypatch.chdir(ROOT)
  options, changes = parse_with_config(
    main.create_parser(),
    [w.replace('FOLDER', str(images)) for w in finetuning[2:]],
  )
  config = load_config(
    options.config,
    [
      *changes,
      '--config.training.num_epochs=1',
      '--config.data.num_threads=1',
      '--config.training.global_batch_size=8',
    ],
  )
  import train

  capsys.readouterr()
  train.train_and_evaluate(config, str(tmp_path / 'NEW'))
  printed = capsys.readouterr().out
  assert (
    'config.preprocessing.image_size: (32, 32), as it was trained' in printed
  )
  assert (
    'config.preprocessing.mean: (0.5, 0.5, 0.5), as it was trained' in printed
  )
  finetuned = load_trained_model(tmp_path / 'NEW')
  assert finetuned.preprocessing.image_size == (32, 32)
  assert finetuned.preprocessing.eval_resize == 'timm'
