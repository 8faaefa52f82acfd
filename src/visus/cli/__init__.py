"""The command line of visus.

Results go to stdout, messages to stderr. Exit codes: 0 for success, 1 for failure, 2 for usage, 130 for Ctrl-C. Modules that
load torch are imported inside the commands that need them, so that help appears at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from visus.cli.clock import CLOCK


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its code."""
    CLOCK.start()
    from visus.cli.app import app

    run(app, "visus")  # also under ``python -m visus``: help and completion say the installed command


def run(app: Callable[..., Any], name: str | None = None) -> None:
    """Run a typer application: every failure prints one line on stderr and sets an exit code.

    Args:
        app: the application.
        name: its name in help and messages; default: as it was started.
    """
    import typer

    from visus.caller import called_by_command
    from visus.cli.streams import drop_output, open_streams, system_error
    from visus.errors import VisusError

    open_streams()
    try:
        os.getcwd()
    except OSError:
        sys.stderr.write(
            "error: the working folder no longer exists. Change to another folder (cd), and run the command again.\n"
        )
        sys.exit(1)
    try:
        with called_by_command():
            code = app(standalone_mode=False, prog_name=name)
        sys.stdout.flush()  # here, and not at the end of the process, where a full disk would be met without a word
    except VisusError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("stopped.\n")
        sys.exit(130)
    except BrokenPipeError:
        drop_output()  # nobody reads the output any more
        sys.exit(1)
    except OSError as error:
        drop_output()
        sys.stderr.write(f"error: {system_error(error)}\n")
        sys.exit(1)
    except MemoryError:
        sys.stderr.write(
            "error: there is not enough memory. Take smaller images (--img-size) or smaller batches (--batch-size).\n"
        )
        sys.exit(1)
    except Exception as error:
        sys.exit(_usage_exit(error))
    sys.exit(code if isinstance(code, int) else 0)


def _usage_exit(error: Exception) -> int:
    """Print a mistake in the arguments in one line, and return its exit code; raise anything else again.

    A group of commands without a command prints its help.
    """
    format_message = getattr(error, "format_message", None)  # typer's own error class has no public name
    if format_message is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{format_message()}\n")
        return int(getattr(error, "exit_code", 2))
    from visus.cli.mistyped import refused
    from visus.cli.words import not_whole

    context, message = getattr(error, "ctx", None), format_message()
    better = not_whole(message, sys.argv) or refused(message, sys.argv, context.command if context is not None else None)
    sys.stderr.write(f"error: {better or message}\n")
    if context is not None:
        sys.stderr.write(f"Help: {context.command_path} --help\n")
    return int(getattr(error, "exit_code", 2))
