"""Question sets that every installation has, and the demo."""

from llama_index_adapters.demo.documentation import documentation_dataset
from llama_index_adapters.demo.modules import module_questions

__all__ = ["documentation_dataset", "module_questions"]
