"""Times tools.prepare against the least that preparing data can be.

    python -m benchmarks.prepare_throughput

An archive of the structure of ImageNet-21k, a tar of tar archives, is made of
generated images (imagenet_like.py). Two programs turn it into ArrayRecord, in
turn, each in a process of its own that starts the same number of workers:

    prepare   tools.prepare imagenet21k_winter21: lists the members, shuffles,
              verifies, writes records, checksums, reports
    minimal   each worker goes through its part of the class archives by
              tarfile, decodes each image and writes the file as a record

Printed are the medians of images per second, by the clock and by processor
time of all processes together, and what part of the minimal rate is reached.
On a shared machine the latter is the steadier. All of it includes the start of
the processes, which a larger archive has less of. The archive is in the page
cache; the output is on the disk of --folder.
"""

import argparse
import io
import multiprocessing
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from array_record.python import array_record_module

from benchmarks import trial_arguments
from benchmarks.imagenet_like import generate_jpegs

ROOT = pathlib.Path(__file__).parents[1]
NUM_CLASSES = 50
# Different images; each occurs several times, under different names.
NUM_DIFFERENT = 200


def write_archive(path: pathlib.Path, num_images: int) -> None:
  """Writes a tar of tar archives, of 50 classes; and a list of the classes."""
  images = generate_jpegs(min(NUM_DIFFERENT, num_images))
  synsets = [f'n{10_000_000 + i}' for i in range(NUM_CLASSES)]
  with tarfile.open(path, 'w') as archive:
    for label, synset in enumerate(synsets):
      numbers = range(label, num_images, NUM_CLASSES)
      files = {f'{synset}_{i}.JPEG': images[i % len(images)] for i in numbers}
      _add(archive, f'{synset}.tar', _tar(files))
  path.with_name('classes.txt').write_text('\n'.join(synsets))


def _tar(files: dict[str, bytes]) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    for name, data in files.items():
      _add(archive, name, data)
  return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
  info = tarfile.TarInfo(name)
  info.size = len(data)
  archive.addfile(info, io.BytesIO(data))


def convert_part(
  archive: pathlib.Path, output_dir: pathlib.Path, part: int, num_parts: int
) -> None:
  """Writes the images of every so-manieth class archive as ArrayRecord."""
  # Here, for what a minimal program needs is all that it should import.
  import simplejpeg

  writer = array_record_module.ArrayRecordWriter(
    str(output_dir / f'{part}.array_record'), 'group_size:1,uncompressed'
  )
  with tarfile.open(archive) as outer:
    for number, class_member in enumerate(outer):
      if number % num_parts != part:
        continue
      with tarfile.open(fileobj=outer.extractfile(class_member)) as inner:
        for member in inner:
          data = inner.extractfile(member).read()
          simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
          writer.write(data)
  writer.close()


def convert(
  archive: pathlib.Path, output_dir: pathlib.Path, num_workers: int
) -> None:
  """Is the minimal program."""
  output_dir.mkdir(parents=True)
  context = multiprocessing.get_context('spawn')
  workers = [
    context.Process(
      target=convert_part, args=(archive, output_dir, part, num_workers)
    )
    for part in range(num_workers)
  ]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
    if worker.exitcode:
      sys.exit(f'A worker ended with status {worker.exitcode}.')


def measure(command: list[str], output_dir: pathlib.Path) -> list[float]:
  """Runs a program; returns its seconds by the clock and of the processor."""
  shutil.rmtree(output_dir, ignore_errors=True)
  os.sync()
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  subprocess.run(
    command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=sys.stderr
  )
  wall = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  processor = after.ru_utime + after.ru_stime
  return [wall, processor - before.ru_utime - before.ru_stime]


def create_commands(
  archive: pathlib.Path, output_dir: pathlib.Path, num_workers: int
) -> dict[str, list[str]]:
  """Returns the command line of each program."""
  return {
    'minimal': [
      *(sys.executable, '-m', 'benchmarks.prepare_throughput'),
      f'--convert={archive}',
      f'--folder={output_dir}',
      f'--num_workers={num_workers}',
    ],
    'prepare': [
      *(sys.executable, '-m', 'tools.prepare', 'imagenet21k_winter21'),
      f'--archive={archive}',
      f'--classes={archive.with_name("classes.txt")}',
      f'--output_dir={output_dir}',
      f'--num_workers={num_workers}',
      '--shard_mebibytes=32',
    ],
  }


def compare(
  folder: pathlib.Path, num_images: int, num_workers: int, rounds: int
) -> None:
  """Runs both in turn and prints the table, in Markdown."""
  archive = folder / 'whole.tar'
  write_archive(archive, num_images)
  output_dir = folder / 'out'
  commands = create_commands(archive, output_dir, num_workers)
  times = {name: [] for name in commands}
  for _ in range(rounds):
    for name, command in commands.items():
      times[name].append(measure(command, output_dir))
  rates = {
    name: [num_images / statistics.median(column) for column in zip(*rows)]
    for name, rows in times.items()
  }
  print(
    f'{num_images:,} images, {archive.stat().st_size / num_images / 1e3:.0f} kB'
    f' each, {num_workers} workers, {rounds} rounds, load'
    f' {os.getloadavg()[0]:.1f} at the end'
  )
  print('| | images/s | images per processor second |\n| --- | --- | --- |')
  for name, (wall, processor) in rates.items():
    print(f'| {name} | {wall:,.0f} | {processor:,.0f} |')
  parts = [a / b for a, b in zip(rates['prepare'], rates['minimal'])]
  print(f'| prepare of minimal | {parts[0]:.0%} | {parts[1]:.0%} |')


def main():
  """Compares, or is the minimal program."""
  parser = trial_arguments.create_parser(
    'python -m benchmarks.prepare_throughput',
    __doc__,
    'what is written',
    num_images=6000,
    num_workers=2,
    rounds=5,
  )
  parser.add_argument('--convert', type=pathlib.Path, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.convert:
    convert(args.convert, args.folder, args.num_workers)
    return
  with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    compare(
      pathlib.Path(folder), args.num_images, args.num_workers, args.rounds
    )


if __name__ == '__main__':
  main()
