"""TPU chips and slices, and abstract devices of them to compile for.

The libtpu wheel carries the TPU's own compiler, which runs on any machine.
What is compiled for abstract devices cannot be run. What a compiled program
costs is counted by `compiler_report.py`.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import math
import os

import jax
from jax.experimental import topologies

from coatnet_jax.errors import UserError, explain_choice

_GIB = 2**30
_NO_LIBTPU = (
  'libtpu, which carries the TPU compiler, is not installed; in a checkout of'
  ' the project: pip install -r requirements-tpu-compiler.txt'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """What a chip has.

  JAX sees one device per chip; the two cores of a v4 or v5p act as one.

  Attributes:
    chip_config_name: libtpu's name for how cores make devices.
    device_kind: JAX's name of a device.
    num_cores: number of cores of one device.
    num_mxus: number of matrix units of one device.
    mxu_size: number of rows, and of columns, of a matrix unit.
    rows_per_cycle: number of rows of its left operand that a matrix unit takes
      in a cycle.
    hbm_bytes: bytes of HBM that the compiler can give, which keeps some.
    hbm_bytes_per_second: bandwidth of the HBM.
    ici_bytes_per_second: bandwidth to the other chips of a slice, over all of
      the chip's links together, in one direction.
    peak_flops: bfloat16 operations per second.
  """

  chip_config_name: str
  device_kind: str
  num_cores: int
  num_mxus: int
  mxu_size: int
  rows_per_cycle: int
  hbm_bytes: int
  hbm_bytes_per_second: float
  ici_bytes_per_second: float
  peak_flops: float

  @property
  def multiply_adds_per_cycle(self) -> int:
    """Returns the most multiply-adds of one device in one cycle."""
    return self.num_mxus * self.mxu_size**2 * self.rows_per_cycle

  @property
  def clock_hz(self) -> float:
    """Returns the clock at which the matrix units have the peak."""
    return self.peak_flops / (2 * self.multiply_adds_per_cycle)


# Peak, bandwidth of HBM and of the links: the pages of each chip in Google
# Cloud's TPU documentation. Cores and matrix units: the same, and
# `jax.experimental.pallas.tpu.get_tpu_info_for_chip`. HBM: what the compiler
# says when a program asks for more. Of the two rows per cycle of a v6e no page
# says anything: the compiler estimates a large bfloat16 product at 1.4 times
# what one row per cycle could do.
_DATA_SHEET = (
  # Chip, JAX's name, cores, matrix units, their size, rows per cycle, HBM in
  # GiB, and bandwidths of HBM and links in GB/s, peak in TFLOP/s.
  ('v4', 'TPU v4', 2, 8, 128, 1, 30.75, 1228, 300, 275),
  ('v5e', 'TPU v5 lite', 1, 4, 128, 1, 15.75, 819, 200, 197),
  ('v5p', 'TPU v5', 2, 8, 128, 1, 95.74, 2765, 600, 459),
  ('v6e', 'TPU v6 lite', 1, 2, 256, 2, 31.25, 1640, 400, 918),
)
CHIPS = {
  name: Chip(
    # What libtpu resolves; without it a v4 slice has two devices per chip.
    chip_config_name='megacore' if cores == 2 else 'default',
    device_kind=kind,
    num_cores=cores,
    num_mxus=mxus,
    mxu_size=size,
    rows_per_cycle=rows,
    hbm_bytes=int(hbm * _GIB),
    hbm_bytes_per_second=hbm_rate * 1e9,
    ici_bytes_per_second=ici_rate * 1e9,
    peak_flops=peak * 1e12,
  )
  for name, kind, cores, mxus, size, rows, hbm, hbm_rate, ici_rate, peak in (
    _DATA_SHEET
  )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
  """Chips that are connected directly, as they can be booked.

  Attributes:
    name: name under which it is booked: 'v5e-16', 'v4-32'. The number is that
      of cores.
    chip_name: kind of its chips, one of `CHIPS`.
    grid: number of chips along each axis.
    host_grid: number of chips of one host along each of three axes.
  """

  name: str
  chip_name: str
  grid: tuple[int, ...]
  host_grid: tuple[int, int, int]

  @property
  def chip(self) -> Chip:
    """Returns what each of its chips has."""
    return CHIPS[self.chip_name]

  @property
  def topology_name(self) -> str:
    """Returns its name for libtpu."""
    return f'{self.chip_name}:{"x".join(map(str, self.grid))}'

  @property
  def num_devices(self) -> int:
    """Returns the number of chips, which is that of JAX's devices."""
    return math.prod(self.grid)

  @property
  def num_hosts(self) -> int:
    """Returns the number of machines, each with one process."""
    return self.num_devices // math.prod(self.host_grid)

  @property
  def wraps(self) -> tuple[bool, ...]:
    """Returns whether the ends of each axis are connected, as in a torus."""
    if len(self.grid) == 3:
      is_torus = all(length % 4 == 0 for length in self.grid)
      return (is_torus,) * 3
    return (*(length == 16 for length in self.grid), False)


def _list_slices() -> dict[str, Slice]:
  """Returns all slices by their names.

  Grids and hosts: the tables of configurations on the pages of each chip in
  Google Cloud's TPU documentation; which axes wrap, the same. libtpu resolves
  them all.
  """
  grids_2d = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
  grids_3d = (
    *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8'),
    *('8x8x8', '8x8x16', '8x16x16'),
  )
  slices = {}
  for chip_name, grids in {
    'v4': grids_3d,
    'v5p': grids_3d,
    'v5e': grids_2d,
    'v6e': grids_2d,
  }.items():
    for text in grids:
      grid = tuple(int(length) for length in text.split('x'))
      name = f'{chip_name}-{math.prod(grid) * CHIPS[chip_name].num_cores}'
      slices[name] = Slice(
        name=name,
        chip_name=chip_name,
        grid=grid,
        # Up to eight chips of a 2-D slice are one host.
        host_grid={'1x1': (1, 1, 1), '2x4': (2, 4, 1)}.get(text, (2, 2, 1)),
      )
  return slices


SLICES = _list_slices()


def get_chip(name: str) -> Chip:
  """Returns a chip by its name.

  Raises:
    UserError: there is none of that name.
  """
  if name not in CHIPS:
    raise UserError(explain_choice('The TPU', name, CHIPS))
  return CHIPS[name]


def get_slice(name: str) -> Slice:
  """Returns a slice by its name.

  >>> get_slice('v5e-16').num_devices, get_slice('v5e-16').num_hosts
  (16, 4)

  Raises:
    UserError: there is none of that name; the message lists those there are.
  """
  if name not in SLICES:
    chip = name.partition('-')[0]
    get_chip(chip)
    names = [s.name for s in SLICES.values() if s.chip_name == chip]
    raise UserError(explain_choice('The TPU slice', name, names))
  return SLICES[name]


def create_abstract_devices(name: str, num_slices: int = 1) -> list[jax.Device]:
  """Returns devices to compile for.

  The first call in a process loads libtpu: see `start_compiler`.

  Args:
    name: name of the slice, or of a chip for a slice of four of them.
    num_slices: number of such slices, which the data centre's network connects.

  Raises:
    UserError: there is no slice or chip of that name, or no libtpu.
  """
  if '-' in name:
    tpu_slice = get_slice(name)
  else:
    chip = get_chip(name)
    tpu_slice = get_slice(f'{name}-{4 * chip.num_cores}')
  if num_slices < 1:
    raise UserError(f'--slices is {num_slices}; it must be at least 1.')
  start_compiler()
  return list(
    topologies.get_topology_desc(
      platform='tpu',
      topology_name=tpu_slice.topology_name,
      chip_config_name=tpu_slice.chip.chip_config_name,
      chips_per_host_bounds=list(tpu_slice.host_grid),
      wrap=list(tpu_slice.wraps),
      **({'num_slices': num_slices} if num_slices > 1 else {}),
    ).devices
  )


@functools.cache
def start_compiler(schedules_directory: str = '') -> None:
  """Sets the environment variables that libtpu reads when it is loaded.

  Must come before anything else that loads libtpu in this process, as
  `jax.devices()` does. Variables that are set already stay; LIBTPU_INIT_ARGS is
  added to. JAX's compilation cache is switched off.

  Args:
    schedules_directory: directory that the compiler writes the final schedule
      of every operation to, which takes many times as long for a large program;
      '' for no schedules.

  Raises:
    UserError: libtpu is not installed.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise UserError(_NO_LIBTPU)
  # A cached program was compiled by another process, perhaps with other flags.
  jax.config.update('jax_enable_compilation_cache', False)
  for name, value in {
    # There is no metadata server to ask for the machine's TPU.
    'TPU_SKIP_MDS_QUERY': '1',
    # libtpu complains on stderr without them; no compilation depends on them.
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    # Otherwise the lock file of a process that was killed stops this one.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }.items():
    os.environ.setdefault(name, value)
  if schedules_directory:
    os.environ['LIBTPU_INIT_ARGS'] = ' '.join(
      [
        os.environ.get('LIBTPU_INIT_ARGS', ''),
        f'--xla_jf_dump_to={schedules_directory}',
        '--xla_jf_dump_llo_text=true',
        # There are some 70 listings for every operation: only the last two.
        '--xla_jf_dump_llo_pass_label_regex=.*final_bundles.*',
      ]
    ).strip()


def describe_compiler() -> str:
  """Returns the compiler's name and version.

  Raises:
    UserError: libtpu is not installed.
  """
  try:
    return f'libtpu {importlib.metadata.version("libtpu")}'
  except importlib.metadata.PackageNotFoundError as error:
    raise UserError(_NO_LIBTPU) from error
