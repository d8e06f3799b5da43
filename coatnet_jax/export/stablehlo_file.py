"""StableHLO: an archive of a program that `jax.export` reads.

`program.jax_export` is what `jax.export.deserialize` takes, with its calling
convention; `program.mlir` has the same as StableHLO's portable bytecode, for
compilers that are not JAX.
"""

import pathlib
import zipfile

import jax
from jax import export

from coatnet_jax.export import program
from coatnet_jax.export.description import describe, list_files
from coatnet_jax.export.formats import Request

PLATFORMS = ('cpu', 'cuda', 'tpu')
PROGRAM_FILE = 'program.jax_export'
MODULE_FILE = 'program.mlir'


def write_stablehlo(request: Request, path: pathlib.Path) -> None:
  """Writes a program for CPUs, NVIDIA GPUs and TPUs.

  Args:
    request: model, and how it is exported.
    path: path of the new file.
  """
  # 'xla' compiles on every platform; a kernel would be bound to one compiler.
  function = program.create_function(
    request.trained,
    with_preprocessing=request.with_preprocessing,
    attention='xla',
  )
  images = program.describe_images(
    request.trained, with_preprocessing=request.with_preprocessing
  )
  exported = export.export(jax.jit(function), platforms=PLATFORMS)(images)
  description = describe(
    request.trained,
    with_preprocessing=request.with_preprocessing,
    precision=request.precision,
  )
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
    archive.writestr(PROGRAM_FILE, bytes(exported.serialize()))
    archive.writestr(MODULE_FILE, exported.mlir_module_serialized)
    for name, text in list_files(description).items():
      archive.writestr(name, text)
