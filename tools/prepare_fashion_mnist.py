"""Makes the embedded data set, a part of Fashion-MNIST, from its idx files.

    python -m tools.prepare_fashion_mnist --idx_dir=DIR --output_dir=DIR

DIR has the four original files (train-images-idx3-ubyte.gz, ...), as in
Debian's package dataset-fashion-mnist. The output, a TFDS data directory with
`fashion_mnist_12k/1.0.0` in it, is the same, byte for byte, every time.

Needs TensorFlow, which TFDS encodes records with; reading them does not.
"""

import argparse
import itertools
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault('NO_GCE_CHECK', 'true')

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from coatnet_jax.data.idx import IdxSource
from coatnet_jax.errors import UserError
from tools import command_line

NAME = 'fashion_mnist_12k'
VERSION = '1.0.0'
CLASS_NAMES = (
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
)
# The first so many of each class, in the order of the files.
IMAGES_PER_CLASS = {'train': 1000, 'test': 200}
# Records that ArrayRecord compresses together. TFDS writes them one by one,
# which makes 7.4 MB of the 6.4 MB of records; this makes 6.0 MB.
GROUP_SIZE = 8

_PNG_STRATEGIES = (
  cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
  cv2.IMWRITE_PNG_STRATEGY_FILTERED,
  cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
  cv2.IMWRITE_PNG_STRATEGY_RLE,
)
_PNG_FILTERS = (
  cv2.IMWRITE_PNG_FILTER_NONE,
  cv2.IMWRITE_PNG_FILTER_SUB,
  cv2.IMWRITE_PNG_FILTER_UP,
  cv2.IMWRITE_PNG_FILTER_AVG,
  cv2.IMWRITE_PNG_FILTER_PAETH,
  cv2.IMWRITE_PNG_ALL_FILTERS,
)


def select_first_of_each_class(
  labels: np.ndarray, num_per_class: int
) -> list[int]:
  """Chooses the first images of every class.

  Args:
    labels: labels [N] of all images, in file order.
    num_per_class: number of images of each class.

  Returns:
    The positions of those chosen, ascending.
  """
  chosen = [
    np.flatnonzero(labels == label)[:num_per_class]
    for label in np.unique(labels)
  ]
  return sorted(np.concatenate(chosen).tolist())


def encode_smallest_png(image: np.ndarray) -> bytes:
  """Encodes [H, W] uint8 in each way PNG has; returns the shortest file."""
  encodings = []
  for strategy, row_filter in itertools.product(_PNG_STRATEGIES, _PNG_FILTERS):
    parameters = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    parameters += [cv2.IMWRITE_PNG_STRATEGY, strategy]
    parameters += [cv2.IMWRITE_PNG_FILTER, row_filter]
    encodings.append(cv2.imencode('.png', image, parameters)[1].tobytes())
  return min(encodings, key=len)


def generate_examples(idx_dir: pathlib.Path, split: str):
  """Yields (key, example) of one split; the key is the place in the file."""
  source = IdxSource(idx_dir, split)
  labels = np.array([source[index]['label'] for index in range(len(source))])
  for index in select_first_of_each_class(labels, IMAGES_PER_CLASS[split]):
    example = source[index]
    png = encode_smallest_png(example['image'][..., 0])
    yield index, {'image': png, 'label': int(labels[index])}


def prepare(idx_dir: pathlib.Path, data_dir: str) -> pathlib.Path:
  """Writes the data set as TFDS does; returns the version's directory."""
  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(28, 28, 1), encoding_format='png'),
      'label': tfds.features.ClassLabel(names=CLASS_NAMES),
    }
  )
  builder = tfds.dataset_builders.store_as_tfds_dataset(
    name=NAME,
    version=VERSION,
    description=(
      'The first 1,000 training and 200 test images of each of the 10 '
      'classes of Fashion-MNIST.'
    ),
    homepage='https://github.com/zalandoresearch/fashion-mnist',
    features=features,
    split_datasets={
      split: generate_examples(idx_dir, split) for split in IMAGES_PER_CLASS
    },
    data_dir=data_dir,
    file_format='array_record',
    disable_shuffling=True,
  )
  return pathlib.Path(builder.data_dir)


def copy_in_groups(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies an ArrayRecord file, GROUP_SIZE records to a compressed chunk.

  Records are serialized again too: the order of the features in a record, a
  protocol buffer's map, is otherwise a different one in every process.
  """
  reader = array_record_module.ArrayRecordReader(str(source))
  writer = array_record_module.ArrayRecordWriter(
    str(target), f'group_size:{GROUP_SIZE}'
  )
  # Here, because it takes seconds to import.
  import tensorflow as tf

  for record in reader.read_all():
    example = tf.train.Example.FromString(record)
    writer.write(example.SerializeToString(deterministic=True))
  writer.close()
  reader.close()


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('prepare_fashion_mnist', __doc__)
  command_line.add_path(
    parser, '--idx_dir', required=True, help='directory of the four idx files'
  )
  command_line.add_path(
    parser,
    '--output_dir',
    required=True,
    help='new TFDS data directory to write',
  )
  return parser


def main(arguments: list[str]) -> int:
  """Packs the data set; see `command_line.run_tool`.

  Raises:
    UserError: the data set is there already.
  """
  options = create_parser().parse_args(arguments)
  target_dir = options.output_dir / NAME / VERSION
  if target_dir.exists():
    raise UserError(f'{target_dir} exists already: give a new --output_dir.')
  target_dir.mkdir(parents=True)
  with tempfile.TemporaryDirectory() as data_dir:
    prepared_dir = prepare(options.idx_dir, data_dir)
    for source in sorted(prepared_dir.iterdir()):
      target = target_dir / source.name
      if '.array_record-' in source.name:
        copy_in_groups(source, target)
      else:
        shutil.copyfile(source, target)
      command_line.show(f'{target.stat().st_size:>9,} {target}')
  return 0


if __name__ == '__main__':
  command_line.run_tool(main)
