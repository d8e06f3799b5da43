"""Files read back by ONNX Runtime, LiteRT and TensorFlow."""

import importlib.util
import json
import zipfile

import pytest

from coatnet_jax.export.exporting import export_model
from coatnet_jax.export.parity import make_input
from tests import documents
from tests.export.models import CLASSES

pytestmark = pytest.mark.export


@pytest.mark.parametrize(
  ('name', 'precision', 'with_preprocessing'),
  [
    ('onnx', 'float32', False),
    ('onnx', 'float32', True),
    ('onnx', 'float16', True),
    ('onnx', 'int8', True),
    ('tflite', 'float32', False),
    ('tflite', 'float32', True),
    ('tflite', 'float16', True),
    ('tflite', 'int8', False),
    ('savedmodel', 'float32', True),
  ],
)
def test_a_file_says_what_the_model_says(
  name, precision, with_preprocessing, trained, images, request_of, tmp_path
):
  request = request_of(
    precision=precision,
    with_preprocessing=with_preprocessing,
    find_samples=lambda: make_input(
      images, trained, with_preprocessing=with_preprocessing
    ),
  )
  path = tmp_path / 'model'
  parity = export_model(request, name, path, images, None)
  bars = {'float32': 1e-5, 'float16': 1e-2, 'int8': 0.2}
  assert parity.difference < bars[precision]
  assert parity.same_top1 == 5
  assert [p.name for p in tmp_path.iterdir()] == ['model']


def test_what_a_file_of_onnx_says_of_itself(request_of, tmp_path):
  import onnx
  from onnxruntime import InferenceSession

  from coatnet_jax.export.onnx_file import write_onnx

  path = tmp_path / 'model.onnx'
  write_onnx(request_of(with_preprocessing=True), path)
  session = InferenceSession(path)
  known = session.get_modelmeta().custom_metadata_map
  assert json.loads(known['class_names']) == list(CLASSES)
  assert json.loads(known['image_size']) == [16, 32]
  assert known['precision'] == 'float32'
  assert session.get_inputs()[0].shape == ['batch', 16, 32, 3]
  # None of an operator set that a runtime may not have.
  assert {node.domain for node in onnx.load(path).graph.node} == {''}


def test_the_sample_of_the_document_reads_it(
  trained, images, request_of, tmp_path, monkeypatch
):
  from coatnet_jax.export.onnx_file import write_onnx

  monkeypatch.chdir(tmp_path)
  write_onnx(request_of(), tmp_path / 'model.onnx')
  (block,) = [
    block
    for block in documents.find_blocks('python')
    if 'onnxruntime' in block.text
  ]
  names = {
    'images': make_input(images, trained, with_preprocessing=False),
  }
  exec(compile(block.text, block.name, 'exec'), names)
  assert names['logits'].shape == (len(images), len(CLASSES))
  assert names['names'] == list(CLASSES)


def test_what_a_file_of_tflite_says_of_itself(request_of, tmp_path):
  from coatnet_jax.export.tensorflow_files import write_tflite

  path = tmp_path / 'model.tflite'
  write_tflite(request_of(), path)
  with zipfile.ZipFile(path) as archive:
    description = json.loads(archive.read('description.json'))
    assert archive.read('labels.txt').decode().startswith('ant\n')
  assert description['class_names'] == list(CLASSES)


def test_the_packages_are_those_of_the_requirements():
  for package in ('onnx', 'onnxruntime', 'ai_edge_litert'):
    assert importlib.util.find_spec(package), package
