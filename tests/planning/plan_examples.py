"""Plans of no compiler, for the tests of tools.plan."""

import dataclasses

from coatnet_jax.planning.plan_page import Plan

GIB = 2**30
PLAN = Plan(
  target='2 x v5e-16',
  num_chips=32,
  num_hosts=8,
  chip='v5e',
  compiler='libtpu 1.2',
  model='coatnet_0, 224x224 px, bfloat16, remat none',
  data='imagenet2012: 1,281,167 images, 1,000 classes',
  mesh={'replica': 2, 'data': 16, 'fsdp': 1, 'tensor': 1},
  num_parameters=25_000_000,
  global_batch_size=4096,
  per_chip_batch_size=128,
  gradient_accumulation_steps=2,
  memory={
    'parameters': GIB // 8,
    'optimizer state': GIB // 4,
    'averages (EMA)': 0,
    'batch statistics': 0,
    'batch': GIB // 64,
    'padding of these': 0,
    'temporaries': 8 * GIB,
    'program': GIB // 16,
  },
  needed_bytes=8 * GIB + GIB * 29 // 64,
  available_bytes=int(15.75 * GIB),
  forward_flops_per_image=8_400_000_000,
  compiler_flops_per_image=24.9e9,
  cycles=150_000_000,
  kernel_cycles=15_000_000,
  cycles_by_stage={'s0': 30_000_000, 's1': 120_000_000, 'rest': 0},
  cycles_by_kind={'attention': 150_000_000},
  hbm_bytes=40_950_000_000,
  seconds_per_step=0.1,
  images_per_second=40960.0,
  peak_share=0.1637,
  collectives={'all-reduce': {'count': 90, 'bytes': 50_123_000}},
  link_seconds=0.0005,
  num_steps=93_835,
  hours=2.6065,
  chip_hours=83.41,
  host_images_per_second=5120.0,
  compile_seconds=301.2,
  peak_memory_bytes=int(5.6 * GIB),
)
# One that does not fit.
TOO_LARGE = dataclasses.replace(
  PLAN,
  **{
    field.name: None
    for field in dataclasses.fields(Plan)
    if field.default is None
  },
  memory={
    kind: size
    for kind, size in PLAN.memory.items()
    if kind not in ('padding of these', 'program')
  }
  | {'temporaries': None},
  needed_bytes=24 * GIB,
)
