"""The adapters of this package beside everything a user might pick instead."""
