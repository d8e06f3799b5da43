"""To the Hugging Face Hub and back, by huggingface_hub."""

import pathlib
import re
import shutil
from typing import Any, NoReturn

from etils import epath

from coatnet_jax.checkpoints import published_folder
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable
from coatnet_jax.weights.hub import (
  fetch_file,
  get_address,
  import_hub,
  keep_quiet,
)

_NAME = re.compile(r'\w[\w.-]*/\w[\w.-]*', re.ASCII)
_TOKEN = re.compile(r'\bhf_\w+')
_FILES = (
  published_folder.WEIGHTS_FILE,
  published_folder.CONFIG_FILE,
  published_folder.CARD_FILE,
)


def check_repository(name: str) -> None:
  """Raises UserError for what is no OWNER/NAME."""
  if not _NAME.fullmatch(name):
    raise UserError(
      f'--repo is {printable(name)!r}; it must be OWNER/NAME on the Hugging'
      ' Face Hub.'
    )


def push_folder(
  folder: pathlib.Path, repository: str, *, private: bool, update: bool
) -> str:
  """Puts the files of a published model on the hub, in one commit.

  Args:
    folder: directory of the files.
    repository: name on the hub, 'OWNER/NAME'; made where it isn't there.
    private: whether nobody else may see it.
    update: whether there may be a model already, which a commit replaces.

  Returns:
    The address of the repository.

  Raises:
    UserError: nobody is logged in, it is refused or does not succeed, or there
      is a model already.
  """
  hub = import_hub(repository)
  if not hub.get_token():
    raise UserError(
      f'To push to {repository}, log in first: `hf auth login`, or HF_TOKEN.'
    )
  api = hub.HfApi(endpoint=get_address())
  try:
    with keep_quiet(hub):
      _prepare(api, hub, repository, private=private, update=update)
      api.create_commit(
        repository,
        [hub.CommitOperationAdd(name, str(folder / name)) for name in _FILES],
        commit_message='Add a model of coatnet_jax',
      )
  except UserError:
    raise
  except Exception as error:  # As in `locate_weights`.
    _explain(repository, error)
  return f'{get_address()}/{repository}'


def _prepare(
  api: Any, hub: Any, repository: str, *, private: bool, update: bool
) -> None:
  """Makes the repository, or finds out whether it may be written to."""
  try:
    info = api.model_info(repository)
  except hub.errors.RepositoryNotFoundError:
    api.create_repo(repository, private=private, exist_ok=True)
    return
  if private and not info.private:
    raise UserError(
      f'{repository} is there and public: make it private on {get_address()},'
      ' or leave --private out.'
    )
  has_files = any(s.rfilename != '.gitattributes' for s in info.siblings or ())
  if has_files and not update:
    raise UserError(
      f'{repository} is there, and has files: give another name, or --update'
      ' for a commit that replaces its model and card.'
    )


def pull_folder(repository: str, out: pathlib.Path) -> None:
  """Fetches a published model, whole or not at all.

  Args:
    repository: name on the hub, 'OWNER/NAME', perhaps with '@REVISION'.
    out: directory, which must not be there.

  Raises:
    UserError: it cannot be fetched, or is not of this project.
  """
  config = fetch_file(repository, published_folder.CONFIG_FILE)
  # All of one commit: the cache calls its directories by them.
  name = repository.partition('@')[0]
  commit = f'{name}@{config.parent.name}'
  files = {published_folder.CONFIG_FILE: config}
  for file in (published_folder.WEIGHTS_FILE, published_folder.CARD_FILE):
    files[file] = fetch_file(commit, file)
  partial = out.with_name(f'{out.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
    for file, path in files.items():
      shutil.copyfile(path, partial / file)
    published_folder.read_published_model(epath.Path(partial))
    partial.replace(out)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _explain(repository: str, error: Exception) -> NoReturn:
  """Raises the UserError for an error of pushing; no token is in it."""
  cause: BaseException = error
  while cause.__cause__ is not None:
    cause = cause.__cause__
  status = _find_status(error)
  address = get_address()
  if status in (401, 403):
    raise UserError(
      f'{address} refuses to have {repository} written (error {status}): log in'
      ' with a token that may write to it, by `hf auth login`, or give a name'
      ' of your own.'
    ) from error
  if status is not None:
    text = f'{address} answers with error {status} to {repository}'
  else:
    reason = _TOKEN.sub('hf_...', ' '.join(str(cause).split()))[:200]
    reason = printable(reason).rstrip('.') or type(cause).__name__
    text = f'{repository} could not be pushed to {address} ({reason})'
  raise UserError(
    f'{text}, and nothing of this push is on it: try again later, or write the'
    ' files with --dry_run=DIR.'
  ) from error


def _find_status(error: BaseException | None) -> int | None:
  """Returns the status of the answer that led to an error."""
  while error is not None:
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status is not None:
      return status
    error = error.__cause__
  return None
