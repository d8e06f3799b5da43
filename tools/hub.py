r"""Takes a trained model to the Hugging Face Hub, and from there.

    python -m tools.hub push --checkpoint=WORKDIR --repo=OWNER/NAME --private
    python -m tools.hub push --checkpoint=WORKDIR --repo=OWNER/NAME \
        --dry_run=DIR
    python -m tools.hub pull --repo=OWNER/NAME --out=DIR

push writes model.safetensors (in timm's layout where timm has the model),
config.json and a model card, README.md, in one commit; --dry_run writes them to
a new directory instead, to be looked at. No path of this machine is in them.
What is pulled is a checkpoint: --checkpoint=DIR in every tool, and
--config.init_from=DIR, or hf-hub:OWNER/NAME without pulling.

Needs huggingface_hub, and for push a token: `hf auth login`.
"""

import argparse
import pathlib
import shlex
import tempfile

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from coatnet_jax.publishing.folder import write_folder
from coatnet_jax.publishing.repository import (
  check_repository,
  pull_folder,
  push_folder,
)
from coatnet_jax.weights.hub import import_hub
from tools import command_line


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = command_line.create_bare_parser('hub', __doc__)
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='push|pull')
  push = verbs.add_parser('push', help='to the hub', allow_abbrev=False)
  command_line.add_checkpoint(push)
  _add_repository(push)
  push.add_argument(
    '--private', action='store_true', help='make a repository nobody else sees'
  )
  push.add_argument(
    '--update', action='store_true', help='replace the model that is there'
  )
  push.add_argument(
    '--license', metavar='ID', help="the hub's word for it: apache-2.0"
  )
  command_line.add_path(
    push, '--dry_run', metavar='DIR', help='a new directory to write to instead'
  )
  pull = verbs.add_parser('pull', help='from the hub', allow_abbrev=False)
  _add_repository(pull)
  command_line.add_path(
    pull, '--out', required=True, metavar='DIR', help='a new directory'
  )
  return parser


def _add_repository(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--repo', required=True, metavar='OWNER/NAME', help='name on the hub'
  )


def main(arguments: list[str]) -> int:
  """Runs the command line; see `command_line.run_tool`.

  Raises:
    UserError: what the user can put right; nothing was lost.
  """
  options = create_parser().parse_args(arguments)
  check_repository(options.repo.partition('@')[0])
  if options.verb == 'pull':
    _check_new('--out', options.out)
    terminal.begin('fetching the model')
    pull_folder(options.repo, options.out)
    quoted = shlex.quote(str(options.out))
    command_line.show(
      f'checkpoint  {options.out}\n'
      f'predict     python -m tools.predict --checkpoint={quoted} IMAGE...'
    )
    return 0
  check_repository(options.repo)
  if options.dry_run is not None:
    _check_new('--dry_run', options.dry_run)
  import_hub(options.repo)
  terminal.begin('reading the checkpoint')
  trained = load_trained_model(options.checkpoint)
  for change in trained.changes:
    command_line.say(change)

  def write(folder: pathlib.Path) -> None:
    terminal.begin('writing the files')
    write_folder(
      trained, folder, repository=options.repo, licence=options.license
    )

  if options.dry_run is not None:
    options.dry_run.mkdir(parents=True, exist_ok=True)
    write(options.dry_run)
    command_line.show(f'{options.dry_run}: what would be pushed; nothing was.')
    return 0
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder))
    terminal.begin('pushing')
    address = push_folder(
      pathlib.Path(folder),
      options.repo,
      private=options.private,
      update=options.update,
    )
  command_line.show(address)
  return 0


def _check_new(name: str, path: pathlib.Path) -> None:
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise UserError(f'{name}={path} exists already: give a new directory.')


if __name__ == '__main__':
  command_line.run_tool(main)
