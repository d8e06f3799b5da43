"""A published model as a checkpoint: a folder as `publishing` writes it.

Three files, as the Hugging Face Hub takes them: model.safetensors; config.json,
which has what timm reads of a model that it has, and under a name of our own
what a checkpoint says beside its state; and a card, README.md.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from etils import epath

from coatnet_jax.checkpoints.metadata import (
  DamageError,
  Metadata,
  describe_failure,
  tuples_for_lists,
)
from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import read_mapping
from coatnet_jax.weights.files import read_weights
from coatnet_jax.weights.loading import read_variables

WEIGHTS_FILE = 'model.safetensors'
CONFIG_FILE = 'config.json'
CARD_FILE = 'README.md'
# Of config.json, what is ours.
SECTION = 'coatnet_jax'


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedModel:
  """What the config.json of a published model says for this project.

  Attributes:
    metadata: what a checkpoint says of itself.
    step: number of optimizer steps taken.
    is_averaged: whether the weights are averages over the run.
    weights_sha256: SHA-256 of model.safetensors, in hexadecimal digits.
  """

  metadata: Metadata
  step: int
  is_averaged: bool
  weights_sha256: str


def is_published(path: epath.Path) -> bool:
  """Returns whether a directory is a published model, of whomever."""
  return (path / WEIGHTS_FILE).exists() and (path / CONFIG_FILE).exists()


def read_published_model(path: epath.Path) -> PublishedModel:
  """Reads what a published model says of itself.

  Args:
    path: directory of it.

  Raises:
    UserError: it is not of this project, or damaged.
  """
  try:
    config = read_mapping(path / CONFIG_FILE)
  except Exception as error:
    raise DamageError(
      f'{path / CONFIG_FILE} cannot be read: {describe_failure(error)}; get it'
      ' again.'
    ) from error
  if SECTION not in config:
    raise UserError(
      f'{path} is a model of another project: its {CONFIG_FILE} has no section'
      f' {SECTION}. Where it is a CoAtNet of timm, start from'
      f' --config.init_from={path / WEIGHTS_FILE}, or make a checkpoint of that'
      ' file with tools.import_timm, in a checkout of the project.'
    )
  return parse_section(config[SECTION], path / CONFIG_FILE)


def parse_section(section: Any, source: os.PathLike[str]) -> PublishedModel:
  """Returns what our section of a config.json says.

  Args:
    section: value of the section.
    source: path of the file in an error.

  Raises:
    DamageError: it is not what it has to be.
  """
  try:
    metadata = Metadata(**tuples_for_lists(section['metadata']))
    published = PublishedModel(
      metadata=metadata,
      step=int(section['step']),
      is_averaged=bool(section['is_averaged']),
      weights_sha256=str(section['weights_sha256']),
    )
  except (KeyError, TypeError, ValueError) as error:
    raise DamageError(
      f'{source} says of its model what cannot be read'
      f' ({describe_failure(error)}); get it again.'
    ) from error
  return published


def create_section(published: PublishedModel) -> dict[str, Any]:
  """Returns our section of a config.json, the way back of `parse_section`."""
  return dataclasses.asdict(published)


def read_published_variables(
  path: epath.Path, model: nn.Module, weights_sha256: str
) -> Mapping[str, Any]:
  """Reads the weights of a published model, and compares their checksum.

  Args:
    path: directory of it.
    model: model that they are of.
    weights_sha256: SHA-256 that they must have.

  Returns:
    {'params', 'batch_stats'} of arrays.

  Raises:
    UserError: they are damaged, or of another model.
  """
  file = path / WEIGHTS_FILE
  if (found := compute_sha256(pathlib.Path(file))) != weights_sha256:
    raise DamageError(
      f'{file} is damaged: its SHA-256 is {found[:12]}... and must be'
      f' {weights_sha256[:12]}...; get it again.'
    )
  return read_variables(model, read_weights(file), report=lambda change: None)


def compute_sha256(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal digits.

  Raises:
    UserError: it cannot be read.
  """
  try:
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}.') from error
