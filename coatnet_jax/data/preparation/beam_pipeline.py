"""Shards written by an Apache Beam pipeline, over the machines of a cluster.

All machines see the archives and the output under the same paths, on a shared
file system: shards are files, written in place and renamed when whole. What is
written is what `worker_pool` writes, byte for byte.
"""

import dataclasses
import functools
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from coatnet_jax.data.preparation.examples import Examples, PreparationSource
from coatnet_jax.data.preparation.shards import (
  WORK_FOLDER,
  Shard,
  WrittenShard,
  read_note,
  write_shard,
)
from coatnet_jax.errors import UserError


def write_shards(
  source: PreparationSource, shards: list[Shard], beam_options: list[str]
) -> Iterator[tuple[Shard, WrittenShard]]:
  """Writes shards, each in one step of a pipeline.

  Args:
    source: source that the images lie in.
    shards: shards to be written.
    beam_options: options of the pipeline, as on Beam's own command lines.

  Yields:
    A shard and what was written, when the whole pipeline has run.

  Raises:
    UserError: a shard could not be written.
  """
  # Lists of images are too large for a runner to take in a pipeline: each is
  # a file, beside the shard that it is of.
  for shard in shards:
    np.savez(_list_path(shard), **dataclasses.asdict(shard.examples))
  places = [dataclasses.replace(shard, examples=None) for shard in shards]
  try:
    with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
      _ = (
        pipeline
        | 'Shards' >> beam.Create(places)
        # Otherwise a runner may put them all into one step.
        | 'Spread' >> beam.Reshuffle()
        | 'Write' >> beam.Map(functools.partial(_write_listed, source))
      )
  finally:
    for shard in shards:
      _list_path(shard).unlink(missing_ok=True)
  for shard in shards:
    written = read_note(shard)
    if written is None:
      raise UserError(
        f'{shard.path} is not there after the pipeline has ended: all its'
        ' machines must see this directory under the same path; run the same'
        ' command again for the shards that are missing.'
      )
    yield shard, written


def _write_listed(source: PreparationSource, shard: Shard) -> None:
  with np.load(_list_path(shard)) as columns:
    examples = Examples(**columns)
  write_shard(source, dataclasses.replace(shard, examples=examples))


def _list_path(shard: Shard):
  return shard.directory / WORK_FOLDER / f'{shard.file_name}.npz'
