"""The account of any module. The module runs without data; the rule of each operator computes the dependence and the cost of
its output.

``account`` runs the module; ``mode`` intercepts its operators; ``operators`` has one registration for each operator of torch, in one file
for each family; ``coordinates`` computes which input coordinates a tensor depends on; ``rows`` and ``flows`` write the account;
``running`` runs a module and restores its state; ``memory`` follows its storages.
"""

from visus.networks.trace.account import TraceError, trace

__all__ = ["TraceError", "trace"]
