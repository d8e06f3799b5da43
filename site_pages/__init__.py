"""Pages of the documentation's site that are made of the code itself.

`mkdocs.yml` names `hook.py`, which adds them whenever the site is built:
`config_keys.py` reads configs/base.py, `programs.py` asks the parsers,
`api.py` names modules for mkdocstrings, and `sources.py` shows files that pages
link to. None of them is committed, so none can be out of date.
"""
