"""Weights by name, fetched from the Hugging Face Hub.

    path = locate_weights('timm/coatnet_0_rw_224.sw_in1k')

The package huggingface_hub does it, if it is installed: its cache (HF_HOME),
its address (HF_ENDPOINT), its token, its offline mode (HF_HUB_OFFLINE=1). What
it has fetched is compared with its checksum each time that it is used.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from coatnet_jax.errors import UserError, suggest
from coatnet_jax.paths import find_hub_name, resolve_local_path
from coatnet_jax.texts import printable
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS

# What publishers of timm's models call it.
WEIGHTS_FILE = 'model.safetensors'
_ADDRESS = 'https://huggingface.co'
_OFFLINE = 'HF_HUB_OFFLINE'
_SHA256 = re.compile(r'[0-9a-f]{64}')
_MAX_REASON = 200


def locate_weights(path: str | os.PathLike[str]) -> pathlib.Path:
  """Returns the file of weights that a path or a name means.

  Args:
    path: path of a file on this machine; or 'timm/NAME' where no such file is,
      or 'hf-hub:OWNER/NAME', perhaps with '@REVISION', of a model on the hub,
      of which model.safetensors is fetched where the cache doesn't have it.

  Raises:
    UserError: huggingface_hub is not installed, there is no such model, or it
      cannot be fetched whole.
  """
  name = find_hub_name(path)
  if name is None:
    return resolve_local_path(path, 'the weights file')
  return fetch_file(name, WEIGHTS_FILE)


def fetch_file(name: str, file: str) -> pathlib.Path:
  """Returns a file of a model on the hub, from the cache where it is there.

  Args:
    name: name on the hub, 'OWNER/NAME', perhaps with '@REVISION'.
    file: name of the file.

  Raises:
    UserError: as `locate_weights`.
  """
  repository, _, revision = name.partition('@')
  hub = import_hub(name)
  try:
    with keep_quiet(hub):
      pointer = pathlib.Path(
        hub.hf_hub_download(
          repository,
          file,
          revision=revision or None,
          endpoint=os.environ.get('HF_ENDPOINT') or None,
        )
      )
  # Its own errors, those of its HTTP client and of its transfers, of which none
  # is documented as the only ones.
  except Exception as error:
    _explain(hub, name, file, error)
  _check_sum(hub, pointer, name, file)
  return pointer


def import_hub(name: str) -> Any:
  """Returns the module huggingface_hub, an optional package."""
  try:
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.utils
  except ImportError as error:
    raise UserError(
      f'{name} is a name on the Hugging Face Hub; to fetch it, install'
      ' huggingface_hub (pip install huggingface_hub), or download'
      f' {get_address()}/{name}/resolve/main/{WEIGHTS_FILE} and give its path.'
    ) from error
  return huggingface_hub


@contextlib.contextmanager
def keep_quiet(hub: Any) -> Iterator[None]:
  """Keeps its bars and warnings off the terminal, which says what goes on."""
  was_quiet = hub.utils.are_progress_bars_disabled()
  logger = logging.getLogger('huggingface_hub')
  level = logger.level
  hub.utils.disable_progress_bars()
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)
    if not was_quiet:
      hub.utils.enable_progress_bars()


def _explain(hub: Any, name: str, file: str, error: Exception) -> NoReturn:
  """Raises the UserError for an error of huggingface_hub."""
  kinds = hub.errors
  cause = error.__cause__ or error
  reason = printable(' '.join(str(cause).split())[:_MAX_REASON]).rstrip('.')
  reason = reason or type(cause).__name__
  if isinstance(error, kinds.HFValidationError):
    text = f'{name} is no name on the Hugging Face Hub: {reason}.'
  elif isinstance(error, kinds.GatedRepoError):
    text = (
      f'{name} is on {get_address()} for those alone whom its owner lets in:'
      ' ask there, and log in with `hf auth login`.'
    )
  elif isinstance(error, kinds.RepositoryNotFoundError):
    tags = [f'timm/{w.tag}' for w in PUBLISHED_WEIGHTS if w.is_on_hub]
    text = (
      f'There is no {name} on {get_address()}, or it is private (then log in'
      f' with `hf auth login`){suggest(name, tags)}'
    )
  elif isinstance(error, kinds.RevisionNotFoundError):
    text = (
      f'{name} is no revision of a model on {get_address()}; leave out @....'
    )
  elif isinstance(error, kinds.LocalEntryNotFoundError):
    text = _explain_unreachable(kinds, name, cause, reason)
  elif isinstance(error, kinds.EntryNotFoundError) and file != WEIGHTS_FILE:
    text = (
      f'{name} on {get_address()} has no {file}: it is no model that this'
      ' project has pushed; give its file of weights to --config.init_from,'
      ' if it has one.'
    )
  elif isinstance(error, kinds.EntryNotFoundError):
    text = (
      f'{name} on {get_address()} has no {file}: download the file of weights'
      ' that it has, and give its path.'
    )
  else:
    text = (
      f'{name} could not be fetched whole from {get_address()} ({reason}), and'
      ' nothing of it is used: try again.'
    )
  raise UserError(text) from error


def _explain_unreachable(
  kinds: Any, name: str, cause: BaseException, reason: str
) -> str:
  """Returns the sentence for what neither the hub nor the cache gives."""
  elsewhere = 'or download the file elsewhere, and give its path.'
  if isinstance(cause, kinds.OfflineModeIsEnabled):
    return (
      f'{name} is not in the cache of huggingface_hub, and {_OFFLINE} forbids'
      f' to fetch it: unset {_OFFLINE}, {elsewhere}'
    )
  status = getattr(getattr(cause, 'response', None), 'status_code', None)
  if status is not None:
    return (
      f'{get_address()} answers with error {status} to {name}, which is not in'
      f' the cache: try again later, {elsewhere}'
    )
  return (
    f'{get_address()} cannot be reached for {name} ({reason}), which is not in'
    f' the cache: try again with a network, {elsewhere}'
  )


def get_address() -> str:
  """Returns the address of the hub."""
  return os.environ.get('HF_ENDPOINT', '').rstrip('/') or _ADDRESS


def _check_sum(hub: Any, pointer: pathlib.Path, name: str, file: str) -> None:
  """Raises UserError for a file that is not what its checksum says.

  The cache has a link to each large file, which is called by its SHA-256. On a
  file system without links the hub is asked for it; where that cannot be
  reached, there is nothing to compare with.
  """
  blob = pointer
  with contextlib.suppress(OSError):
    blob = pointer.parent / os.readlink(pointer)
  expected = blob.name
  if blob == pointer:
    expected = _ask_for_sum(hub, name, file)
  if not _SHA256.fullmatch(expected):
    return
  with blob.open('rb') as content:
    found = hashlib.file_digest(content, 'sha256').hexdigest()
  if found == expected:
    return
  what_to_do = 'it was taken out of the cache: try again.'
  try:
    # Else the cache would give it again, and again.
    pointer.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
  except OSError:
    what_to_do = f'remove {blob} from the cache, or set HF_HOME to another.'
  raise UserError(
    f'{name} is damaged: its SHA-256 is {found[:12]}... and must be'
    f' {expected[:12]}...; {what_to_do}'
  )


def _ask_for_sum(hub: Any, name: str, file: str) -> str:
  """Returns the SHA-256 that the hub says a file has; '' if it says none."""
  repository, _, revision = name.partition('@')
  endpoint = os.environ.get('HF_ENDPOINT') or None
  try:
    with keep_quiet(hub):
      return (
        hub.get_hf_file_metadata(
          hub.hf_hub_url(
            repository, file, revision=revision or None, endpoint=endpoint
          ),
          endpoint=endpoint,
        ).etag
        or ''
      )
  # As in `locate_weights`: the cache has the file, and no network does.
  except Exception:
    return ''
