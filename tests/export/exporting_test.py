import dataclasses
import json
import zipfile

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax import export

from coatnet_jax.errors import UserError
from coatnet_jax.export import exporting, reading, tensorflow_files
from coatnet_jax.export.exporting import export_model
from coatnet_jax.export.parity import make_input
from coatnet_jax.export.stablehlo_file import write_stablehlo
from tests.export.models import CLASSES, assert_close, compute_logits


@pytest.mark.parametrize('with_preprocessing', [False, True])
def test_a_program_of_stablehlo(
  with_preprocessing, trained, images, request_of, tmp_path
):
  path = tmp_path / 'model.zip'
  write_stablehlo(request_of(with_preprocessing=with_preprocessing), path)
  with zipfile.ZipFile(path) as archive:
    program = export.deserialize(bytearray(archive.read('program.jax_export')))
    description = json.loads(archive.read('description.json'))
    labels = archive.read('labels.txt').decode()
    assert archive.read('program.mlir')[:4] == b'ML\xefR'
  assert program.platforms == ('cpu', 'cuda', 'tpu')
  inputs = make_input(images, trained, with_preprocessing=with_preprocessing)
  expected = compute_logits(trained, images)
  for size in (1, 5):
    assert_close(program.call(inputs[:size]), expected[:size])
  assert description['class_names'] == list(CLASSES)
  assert labels == 'ant\nbee\\n\ncat "é"\n'
  assert description['image_size'] == [16, 32]
  assert description['mean'] == list(trained.preprocessing.mean)
  assert description['model'] == 'tiny'
  assert description['project'] == 'coatnet_jax 0.1.0'
  kind = 'uint8 in' if with_preprocessing else 'float32: (uint8 / 255 - mean)'
  assert kind in description['input']


def test_a_saved_model(trained, images, request_of, tmp_path):
  path = tmp_path / 'model'
  tensorflow_files.write_saved_model(request_of(with_preprocessing=True), path)
  call = tf.saved_model.load(str(path)).signatures['serving_default']
  expected = compute_logits(trained, images)
  for size in (1, 5):
    logits = call(images=tf.constant(images[:size]))['logits']
    assert_close(logits, expected[:size])
  text = (path / 'assets.extra' / 'description.json').read_text('utf-8')
  assert json.loads(text)['class_names'] == list(CLASSES)
  # TensorFlow's own operations, which any of its runtimes has.
  kinds = {node.type for node in call.graph.get_operations()}
  assert 'XlaCallModule' not in kinds


def test_a_file_is_read_without_this_project(
  trained, images, request_of, tmp_path
):
  labels = np.array([0, 1, 2, 0, 1])
  path = tmp_path / 'model.zip'
  parity = export_model(request_of(), 'stablehlo', path, images, labels)
  assert parity.difference < 1e-5
  assert (parity.same_top1, parity.count) == (5, 5)
  assert parity.top1 == parity.own_top1
  assert parity.runtime == f'jax {jax.__version__}'
  assert parity.seconds.keys() == parity.own_seconds.keys() == {1, 16}
  assert [p.name for p in tmp_path.iterdir()] == ['model.zip']
  with pytest.raises(UserError, match='exists already: give a new path'):
    exporting.check_target(path)


def test_what_reads_a_file_refuses_this_project():
  refusal = reading._Refusal()
  for name in ('coatnet_jax', 'coatnet_jax.models', 'tools'):
    with pytest.raises(ImportError, match='not for who reads'):
      refusal.find_spec(name)
  assert refusal.find_spec('numpy') is None


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    pytest.param(
      lambda trained: {'class_names': CLASSES[:2]},
      'names other classes',
      marks=pytest.mark.slow,
    ),
    (
      lambda trained: {
        'variables': jax.tree.map(lambda x: x * 1.01, trained.variables)
      },
      'is not kept: its logits differ from the model by',
    ),
  ],
)
def test_what_says_something_else_is_not_kept(
  change, message, trained, images, request_of, tmp_path, monkeypatch
):
  other = dataclasses.replace(trained, **change(trained))
  monkeypatch.setattr(
    exporting,
    'find_writer',
    lambda _: (
      lambda request, path: write_stablehlo(
        dataclasses.replace(request, trained=other), path
      )
    ),
  )
  with pytest.raises(UserError, match=message):
    export_model(request_of(), 'stablehlo', tmp_path / 'a', images, None)
  assert [*tmp_path.iterdir()] == []


def test_what_cannot_be_read_back_is_not_kept(
  images, request_of, tmp_path, monkeypatch
):
  monkeypatch.setattr(
    exporting,
    'find_writer',
    lambda _: lambda request, path: path.write_bytes(b'no archive'),
  )
  with pytest.raises(UserError, match='cannot be read back by its own runtime'):
    export_model(request_of(), 'stablehlo', tmp_path / 'a', images, None)
  assert [*tmp_path.iterdir()] == []


def test_models_without_classes(trained):
  for change, message in (
    ({'model': trained.model.clone(num_classes=0)}, 'has no classes'),
    ({'class_names': ()}, 'has 3 classes and 0 names for them'),
  ):
    with pytest.raises(UserError, match=message):
      exporting.check_model(dataclasses.replace(trained, **change))


def test_a_target_without_a_directory(tmp_path):
  with pytest.raises(UserError, match='there is no directory'):
    exporting.check_target(tmp_path / 'no' / 'model.onnx')
  link = tmp_path / 'link'
  link.symlink_to(tmp_path / 'nothing')
  with pytest.raises(UserError, match='exists already'):
    exporting.check_target(link)


def test_what_a_killed_export_left_goes(images, request_of, tmp_path):
  left = tmp_path / '.model.zip.partial'
  left.mkdir()
  (left / 'model.zip').write_bytes(b'half')
  path = tmp_path / 'model.zip'
  export_model(request_of(), 'stablehlo', path, images, None)
  assert list(tmp_path.iterdir()) == [path]
