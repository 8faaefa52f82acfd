"""The account of any module: it runs once without data, and every operation says what its output depends on and what it costs.

``account`` runs the module and makes the account; ``operators`` holds what is known of each operator of torch; ``coordinates`` holds
which input coordinates a tensor depends on.
"""

from visus.networks.trace.account import TraceError, trace

__all__ = ["TraceError", "trace"]
