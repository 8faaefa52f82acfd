"""The account of any module: it runs without data, and every operator says what its output depends on and what it costs.

``account`` runs the module; ``mode`` intercepts its operators; ``operators`` has one registration for each operator of torch, in one file
for each family; ``coordinates`` computes which input coordinates a tensor depends on; ``rows`` and ``flows`` write the account;
``running`` runs a module and puts it back as it was; ``memory`` follows its storages.
"""

from visus.networks.trace.account import TraceError, trace

__all__ = ["TraceError", "trace"]
