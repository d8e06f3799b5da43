"""Where a TFDS data set is prepared, and what to do where it is not."""

import os
import pathlib
import shlex

import tensorflow_datasets as tfds

from coatnet_jax.errors import UserError, explain_choice, list_choices
from coatnet_jax.strict_json import to_json

# Data sets that come with the code, each a prepared TFDS directory.
EMBEDDED_DIR = pathlib.Path(__file__).parent / 'embedded'


def format_preparation_command(name: str, data_dir: str) -> str:
  """Returns the shell command that prepares a TFDS data set for us.

  In TFDS 4.9.10 the `tfds` command line itself fails without Apache Beam.

  Args:
    name: name of the data set, with an optional version.
    data_dir: TFDS data directory to prepare it in.
  """
  # Texts in double quotes, so that a shell takes the whole in single ones.
  name, data_dir = to_json(name), to_json(data_dir, ensure_ascii=False)
  code = (
    f'import tensorflow_datasets as tfds; tfds.builder({name},'
    f' data_dir={data_dir}, file_format="array_record").download_and_prepare()'
  )
  return f'python -c {shlex.quote(code)}'


def is_embedded(name: str) -> bool:
  """Returns whether a data set of that name comes with the code.

  Args:
    name: name of the data set, with an optional config and version.
  """
  return _get_base_name(name) in _folders(str(EMBEDDED_DIR))


def _get_base_name(name: str) -> str:
  return name.split(':')[0].split('/')[0]


def find_builder_dir(name: str, data_dir: str) -> str:
  """Returns the directory of a prepared data set.

  Args:
    name: name of the data set, with an optional config and version, looked up
      among the embedded ones first.
    data_dir: TFDS data directory, in which data sets have a folder each.

  Raises:
    UserError: there is none of that name; with how to prepare it.
  """
  where = str(EMBEDDED_DIR) if is_embedded(name) else data_dir
  try:
    builder = tfds.core.read_only_builder.builder_from_files(
      name, data_dir=where
    )
  except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
    raise UserError(_not_found(name, where)) from error
  return str(builder.data_dir)


def _not_found(name: str, data_dir: str) -> str:
  """Says why there is no such data set, and what to do."""
  base_name = _get_base_name(name)
  prepared = _list_prepared(data_dir)
  known = set(tfds.list_builders(with_community_datasets=False))
  if base_name in prepared:
    below = _folders(os.path.join(data_dir, base_name))
    rest = name.removeprefix(base_name)[1:]
    listed = list_choices(rest, below, words=f'where {base_name} has only')
    return f'The data set {name!r} is not in {data_dir}, {listed}'
  if base_name not in known:
    embedded = set(_folders(str(EMBEDDED_DIR)))
    return explain_choice(
      'config.data.name',
      base_name,
      known | prepared | embedded,
      listed=f'of TFDS, of {data_dir} and of those that come with the code'
      f' ({", ".join(sorted(embedded))})',
    )
  message = (
    f'The data set {name!r} is not prepared: looked in {data_dir} '
    '(config.data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets). '
    f'To prepare it, run:\n  {format_preparation_command(name, data_dir)}'
  )
  if base_name == 'imagenet2012':
    message += (
      '\nbut first download ILSVRC2012_img_train.tar and '
      'ILSVRC2012_img_val.tar by hand from https://image-net.org into '
      f'{os.path.join(data_dir, "downloads", "manual")}.'
    )
  return message


def _list_prepared(data_dir: str) -> set[str]:
  return set(_folders(data_dir)) - {'downloads'}


def _folders(directory: str) -> list[str]:
  if not os.path.isdir(directory):
    return []
  return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
