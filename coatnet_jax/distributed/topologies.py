"""TPU chips, and abstract devices of them to compile for without a TPU.

The libtpu wheel carries the TPU's own compiler, which runs on any machine.
What is compiled for abstract devices cannot be run. What a compiled program
costs is counted by `compiler_report.py`.
"""

import atexit
import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile

import jax
from jax.experimental import topologies

from coatnet_jax.errors import UserError

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """What a chip has, and how to ask for a slice of four of them.

  JAX sees one device per chip: of a chip with two cores, both act as one.

  Attributes:
    topology_name: of a slice of four chips, for libtpu.
    chip_config_name: how cores make devices, for libtpu.
    device_kind: what JAX calls a device.
    num_cores: of one device.
    num_mxus: matrix units of one device.
    mxu_size: rows and columns of a matrix unit.
    rows_per_cycle: of its left operand that a matrix unit takes.
    vmem_bytes: vector memory of one core.
    hbm_bytes: nominal; the compiler keeps a little of it to itself.
    hbm_bytes_per_second: bandwidth.
    peak_flops: bfloat16, per second.
  """

  topology_name: str
  chip_config_name: str
  device_kind: str
  num_cores: int
  num_mxus: int
  mxu_size: int
  rows_per_cycle: int
  vmem_bytes: int
  hbm_bytes: int
  hbm_bytes_per_second: float
  peak_flops: float

  @property
  def multiply_adds_per_cycle(self) -> int:
    """Returns the most multiply-adds of one device in one cycle."""
    return self.num_mxus * self.mxu_size**2 * self.rows_per_cycle

  @property
  def clock_hz(self) -> float:
    """Returns the clock at which the matrix units have the peak."""
    return self.peak_flops / (2 * self.multiply_adds_per_cycle)


# Peak, HBM and its bandwidth: the pages of each chip in Google Cloud's TPU
# documentation. Cores and matrix units: the same, and
# `jax.experimental.pallas.tpu.get_tpu_info_for_chip`. VMEM: what the compiler
# says when a kernel asks for more. Slices and chip_config_name: what libtpu
# resolves; without a config name a v4 slice has two devices per chip.
CHIPS = {
  'v4': Chip(
    topology_name='v4:2x2x1',
    chip_config_name='megacore',
    device_kind='TPU v4',
    num_cores=2,
    num_mxus=8,
    mxu_size=128,
    rows_per_cycle=1,
    vmem_bytes=16 * 2**20,
    hbm_bytes=32 * _GIB,
    hbm_bytes_per_second=1228e9,
    peak_flops=275e12,
  ),
  'v5e': Chip(
    topology_name='v5e:2x2',
    chip_config_name='default',
    device_kind='TPU v5 lite',
    num_cores=1,
    num_mxus=4,
    mxu_size=128,
    rows_per_cycle=1,
    vmem_bytes=128 * 2**20,
    hbm_bytes=16 * _GIB,
    hbm_bytes_per_second=819e9,
    peak_flops=197e12,
  ),
  'v5p': Chip(
    topology_name='v5p:2x2x1',
    chip_config_name='megacore',
    device_kind='TPU v5',
    num_cores=2,
    num_mxus=8,
    mxu_size=128,
    rows_per_cycle=1,
    vmem_bytes=64 * 2**20,
    hbm_bytes=95 * _GIB,
    hbm_bytes_per_second=2765e9,
    peak_flops=459e12,
  ),
  'v6e': Chip(
    topology_name='v6e:2x2',
    chip_config_name='default',
    device_kind='TPU v6 lite',
    num_cores=1,
    num_mxus=2,
    mxu_size=256,
    # No page says so. The compiler estimates a large bfloat16 product at
    # 1.4 times what one row per cycle could do.
    rows_per_cycle=2,
    vmem_bytes=128 * 2**20,
    hbm_bytes=32 * _GIB,
    hbm_bytes_per_second=1640e9,
    peak_flops=918e12,
  ),
}


def get_chip(name: str) -> Chip:
  """Returns a chip by its name.

  Raises:
    UserError: there is none of that name.
  """
  if name not in CHIPS:
    raise UserError(f'There is no TPU {name!r}; there are {", ".join(CHIPS)}.')
  return CHIPS[name]


def create_abstract_devices(name: str) -> list[jax.Device]:
  """Returns the devices of a slice of four chips, to compile for.

  The first call in a process loads libtpu: see `start_compiler`.

  Args:
    name: of the chip.

  Raises:
    UserError: there is no chip of that name, or no libtpu.
  """
  chip = get_chip(name)
  start_compiler()
  return list(
    topologies.get_topology_desc(
      platform='tpu',
      topology_name=chip.topology_name,
      chip_config_name=chip.chip_config_name,
    ).devices
  )


@functools.cache
def start_compiler() -> str:
  """Sets what libtpu reads of the environment when it is loaded.

  Must come before anything else that loads libtpu in this process, as
  `jax.devices()` does. Variables that are set already stay, LIBTPU_INIT_ARGS
  is added to. Switches JAX's compilation cache off.

  Returns:
    The directory that the compiler writes the final schedules of what it
    compiles to; it is removed when the process ends.

  Raises:
    UserError: libtpu is not installed.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise UserError(
      'libtpu, which carries the TPU compiler, is not installed:'
      ' pip install -r requirements-tpu-compiler.txt'
    )
  # What comes from a cache was compiled by another process, which had the
  # schedule.
  jax.config.update('jax_enable_compilation_cache', False)
  directory = tempfile.mkdtemp(prefix='coatnet_jax_schedules_')
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  for name, value in {
    # There is no metadata server to ask for the machine's TPU.
    'TPU_SKIP_MDS_QUERY': '1',
    # Or it complains of them on stderr; no chip compiled for depends on them.
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    # Or the lock file of a process that was killed stops this one.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }.items():
    os.environ.setdefault(name, value)
  os.environ['LIBTPU_INIT_ARGS'] = ' '.join(
    [
      os.environ.get('LIBTPU_INIT_ARGS', ''),
      f'--xla_jf_dump_to={directory}',
      '--xla_jf_dump_llo_text=true',
      # Of some 70 listings for every operation, the last two.
      '--xla_jf_dump_llo_pass_label_regex=.*final_bundles.*',
    ]
  ).strip()
  return directory


def describe_compiler() -> str:
  """Returns the compiler's name and version.

  Raises:
    UserError: libtpu is not installed.
  """
  try:
    return f'libtpu {importlib.metadata.version("libtpu")}'
  except importlib.metadata.PackageNotFoundError as error:
    raise UserError(
      'libtpu, which carries the TPU compiler, is not installed:'
      ' pip install -r requirements-tpu-compiler.txt'
    ) from error
