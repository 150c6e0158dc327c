"""A directory on disk to and from an adapter.

A saved adapter is a directory of three files: ``config.json`` (what it is),
``model.safetensors`` (its arrays) and ``README.md`` (a model card for people). Reading one runs
no code that it names and believes nothing it says: sizes are capped, shapes are compared with
the config, values must be finite and links may not lead out of the directory. Format 2 is written
(``config``, ``parts``, ``fingerprint``; described in ``docs/format.md``); format 1 (``format_one``)
and the directories of LlamaIndex's engine (``llamaindex``) are read as if they were format 2.
"""
