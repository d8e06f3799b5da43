"""The files beside the shards: what TFDS needs to know of a data set."""

import json
import os
import pathlib
import tempfile

import tensorflow_datasets as tfds

from coatnet_jax.data.preparation.examples import PreparationSource
from coatnet_jax.data.preparation.shards import WORK_FOLDER, WrittenShard
from coatnet_jax.paths import write_whole
from coatnet_jax.strict_json import to_json

# What the data set was made from and with.
PLAN_FILE = 'preparation.json'
_LAST_FILE = 'dataset_info.json'


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file that is whole or not there, with the new text or the old."""
  content = text.encode('utf-8', 'backslashreplace')
  write_whole(path, content, f'{path.name}.unfinished')


def write_data_set_info(
  source: PreparationSource,
  directory: pathlib.Path,
  written: dict[str, list[WrittenShard]],
) -> None:
  """Writes features.json, label.labels.txt and, last, dataset_info.json.

  Args:
    source: source with name, classes and kind of images.
    directory: directory of the data set, with its shards.
    written: finished shards of each split.
  """
  with tempfile.TemporaryDirectory(dir=directory / WORK_FOLDER) as folder:
    _create_data_set_info(source, folder, written).write_to_directory(folder)
    names = sorted(os.listdir(folder), key=lambda name: name == _LAST_FILE)
    for name in names:
      text = (pathlib.Path(folder) / name).read_text(encoding='utf-8')
      if name.endswith('.json'):
        # The order of a protocol buffer's map differs between processes.
        text = to_json(
          json.loads(text), indent=2, sort_keys=True, ensure_ascii=False
        )
      write_text(directory / name, text)


def _create_data_set_info(
  source: PreparationSource,
  folder: str,
  written: dict[str, list[WrittenShard]],
) -> tfds.core.DatasetInfo:
  info = tfds.core.DatasetInfo(
    builder=tfds.core.dataset_info.DatasetIdentity(
      name=source.name,
      version=source.version,
      data_dir=folder,
      module_name=__name__,
    ),
    description=source.description,
    features=tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(
          shape=source.image_shape, encoding_format=source.encoding_format
        ),
        'label': tfds.features.ClassLabel(names=source.class_names),
        'file_name': tfds.features.Text(),
      }
    ),
    supervised_keys=('image', 'label'),
  )
  info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
  info.set_splits(
    tfds.core.SplitDict(
      [
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=[shard.num_examples for shard in part],
          num_bytes=sum(shard.num_bytes for shard in part),
          filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder,
            dataset_name=source.name,
            split=split,
            filetype_suffix='array_record',
          ),
        )
        for split, part in written.items()
      ]
    )
  )
  return info
