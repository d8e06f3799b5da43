"""Times the input pipeline on one core beside one of tf.data with TF's ops.

    python -m benchmarks.input_pipeline

Both read the same JPEG files, generated ones of ImageNet's size
(imagenet_like.py), and make batches of random-resized crops of 224 px,
mirrored, with RandAugment(2, 15) of the same sixteen operations:

    threads   batching.create_train_batches with configs/base.py's options:
              ArrayRecord, simplejpeg, OpenCV, in threads of the process
    worker    the same with a worker process (config.data.num_workers=1)
    tf.data   TFRecord, tf.image.decode_and_crop_jpeg, tf_randaugment.py,
              bilinear, one thread

Each is a process bound to one core, run in turn with the others. Printed are
medians over the rounds of images per second by the clock, which on a shared
machine is less than a core can do, and by processor time of the process and
its workers. Start and first batches are not counted.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import trial_arguments
from benchmarks.imagenet_like import generate_jpegs
from coatnet_jax.strict_json import to_json

ROOT = pathlib.Path(__file__).parents[1]
PIPELINES = ('threads', 'worker', 'tf.data')
NUM_DIFFERENT = 256
NUM_CLASSES = 10
IMAGE_SIZE = 224
BATCH_SIZE = 64
WARMUP_BATCHES = 8


def write_data(folder: pathlib.Path, num_images: int) -> None:
  """Writes the images as TFDS data set in ArrayRecord, and as TFRecord."""
  import tensorflow as tf

  from coatnet_jax.data.preparation.files import FolderPreparationSource
  from coatnet_jax.data.preparation.preparation import (
    PreparationOptions,
    prepare,
  )

  images = generate_jpegs(NUM_DIFFERENT)
  with tf.io.TFRecordWriter(str(folder / 'images.tfrecord')) as writer:
    for i in range(num_images):
      path = folder / 'images' / str(i % NUM_CLASSES) / f'{i}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      image = images[i % len(images)]
      path.write_bytes(image)
      example = tf.train.Example()
      features = example.features.feature
      features['image'].bytes_list.value.append(image)
      features['label'].int64_list.value.append(i % NUM_CLASSES)
      writer.write(example.SerializeToString())
  source = FolderPreparationSource(
    'imagenet_like', folder / 'images', only_split='train'
  )
  prepare(source, PreparationOptions(output_dir=folder))


def create_ours(folder: pathlib.Path, num_workers: int) -> Iterator[dict]:
  """Returns the project's own training batches."""
  from coatnet_jax.data.augmentation import (
    AugmentationOptions,
    PreprocessingOptions,
  )
  from coatnet_jax.data.batching import create_train_batches
  from coatnet_jax.data.sources import DataOptions, create_source
  from configs import base

  config = base.get_config()
  config.data.update(
    name='imagenet_like',
    data_dir=str(folder),
    num_workers=num_workers,
    cache_mebibytes=0,
  )
  config.preprocessing.image_size = (IMAGE_SIZE, IMAGE_SIZE)
  config.augmentation.randaugment_layers = 2
  config.augmentation.randaugment_magnitude = 15.0
  data = DataOptions(**config.data)
  return create_train_batches(
    create_source(data, 'train'),
    data=data,
    preprocessing=PreprocessingOptions(**config.preprocessing),
    augmentation=AugmentationOptions(**config.augmentation),
    global_batch_size=BATCH_SIZE,
    seed=0,
  )


def create_tf_data(folder: pathlib.Path) -> Iterator[dict]:
  """Returns batches of tf.data with TensorFlow's own operations."""
  import tensorflow as tf

  from benchmarks.tf_randaugment import apply_randaugment

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  features = {
    'image': tf.io.FixedLenFeature([], tf.string),
    'label': tf.io.FixedLenFeature([], tf.int64),
  }

  def augment(record):
    example = tf.io.parse_single_example(record, features)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(example['image']),
      tf.zeros([1, 0, 4]),
      area_range=(0.08, 1.0),
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    image = tf.image.decode_and_crop_jpeg(example['image'], window, channels=3)
    image = tf.image.resize(image, (IMAGE_SIZE, IMAGE_SIZE))
    image = tf.cast(tf.round(image), tf.uint8)
    image = tf.image.random_flip_left_right(image)
    image = apply_randaugment(image, num_layers=2, magnitude=15.0)
    return {'image': image, 'label': example['label']}

  options = tf.data.Options()
  options.threading.private_threadpool_size = 1
  options.threading.max_intra_op_parallelism = 1
  dataset = (
    tf.data.TFRecordDataset(str(folder / 'images.tfrecord'))
    .shuffle(256)
    .repeat()
    .map(augment, num_parallel_calls=1)
    .batch(BATCH_SIZE, drop_remainder=True)
    .prefetch(2)
    .with_options(options)
  )
  return dataset.as_numpy_iterator()


def create_batches(pipeline: str, folder: pathlib.Path) -> Iterator[dict]:
  """Returns endless batches of one of the pipelines, by its name."""
  if pipeline == 'tf.data':
    return create_tf_data(folder)
  return create_ours(folder, num_workers=int(pipeline == 'worker'))


def _processor_seconds() -> float:
  """Returns the processor time of this process and those it started."""
  seconds = time.process_time()
  for child in multiprocessing.active_children():
    stat = pathlib.Path(f'/proc/{child.pid}/stat').read_text()
    ticks = stat.rsplit(')', 1)[1].split()[11:13]
    seconds += sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK')
  return seconds


def run(pipeline: str, folder: pathlib.Path, num_batches: int) -> None:
  """Times one pipeline in this process; prints its two rates as JSON."""
  os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  batches = create_batches(pipeline, folder)
  for _ in range(WARMUP_BATCHES):
    next(batches)
  wall, processor = time.perf_counter(), _processor_seconds()
  for _ in range(num_batches):
    batch = next(batches)
  wall = time.perf_counter() - wall
  processor = _processor_seconds() - processor
  assert batch['image'].shape == (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
  assert batch['image'].dtype == np.uint8
  num_images = num_batches * BATCH_SIZE
  print(to_json([num_images / wall, num_images / processor]), flush=True)
  if pipeline != 'tf.data':
    batches.close()


def compare(folder: pathlib.Path, num_batches: int, rounds: int) -> None:
  """Runs the pipelines in turn and prints the table, in Markdown."""
  rates = {name: [] for name in PIPELINES}
  for _ in range(rounds):
    for name, found in rates.items():
      command = [
        *(sys.executable, '-m', 'benchmarks.input_pipeline'),
        *(f'--pipeline={name}', f'--folder={folder}'),
        f'--num_batches={num_batches}',
      ]
      done = subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'},
      )
      found.append(json.loads(done.stdout.splitlines()[-1]))
  print(
    f'{rounds} rounds of {num_batches * BATCH_SIZE:,} images, one core, load'
    f' {os.getloadavg()[0]:.1f} at the end'
  )
  print('| | images/s | images per processor second | least and most |')
  print('| --- | --- | --- | --- |')
  for name, found in rates.items():
    wall, processor = zip(*found)
    print(
      f'| {name} | {statistics.median(wall):,.0f}'
      f' | {statistics.median(processor):,.0f}'
      f' | {min(processor):,.0f} to {max(processor):,.0f} |'
    )


def main():
  """Compares, or is one of the pipelines."""
  parser = trial_arguments.create_parser(
    'python -m benchmarks.input_pipeline',
    __doc__,
    'the images',
    num_images=1024,
    num_batches=16,
    rounds=5,
  )
  parser.add_argument('--pipeline', choices=PIPELINES, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.pipeline:
    from absl import flags

    # Grain's worker processes ask for absl's flags.
    flags.FLAGS.mark_as_parsed()
    run(args.pipeline, args.folder, args.num_batches)
    return
  with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    write_data(pathlib.Path(folder), args.num_images)
    compare(pathlib.Path(folder), args.num_batches, args.rounds)


if __name__ == '__main__':
  main()
