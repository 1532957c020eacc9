"""Define the device's commands; turn errors into messages and exit codes, here alone."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import click

from deploy.cli.label import label
from deploy.cli.selftest import selftest
from deploy.cli.watch import watch
from deploy.errors import BadData, MissingPackage, RetrainError
from deploy.system.error_messages import explain
from deploy.system.streams import OutputLost, attach
from deploy.system.terminal import say

INTERRUPTED, STDOUT_CLOSED = 130, 141
_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # of click 8.2


class Commands(click.Group):
    """A click group that ends with a message and an exit code, never with a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and exit, as `ending` does."""
        ending(partial(super().main, *args, **{**extra, "standalone_mode": False}))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; name its options, not its settings, in the message of an error."""
        try:
            return super().invoke(ctx)
        except RetrainError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if command:
                error.args = tuple(name_options(str(line), command) for line in error.args)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; its text options accept UTF-8 only, a path may be any bytes."""
        name, command, remaining = super().resolve_command(ctx, args)
        for parameter in command.params if command else ():
            if parameter.type is click.STRING:
                parameter.type = _Text()
        return name, command, remaining


class _Text(click.types.StringParamType):
    """The type of a text argument."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; fail for bytes that are not UTF-8."""
        text = str(super().convert(value, param, ctx))
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"'{text}' is not UTF-8 text", param, ctx)
        return text


def name_options(text: str, command: click.Command) -> str:
    """Return `text` with each setting in backquotes replaced by the option of `command` for it.

    "`learning_rate`: must be above 0" becomes "--learning-rate: must be above 0"; an argument
    becomes its metavar. A name that is no parameter of `command` stays as it is.
    """
    names = {
        parameter.name: max(parameter.opts, key=len)
        if isinstance(parameter, click.Option)
        else (parameter.metavar or str(parameter.name).upper())
        for parameter in command.params
    }
    return re.sub(r"`(\w+)`", lambda match: names.get(match[1], match[0]), text)


def ending(run: Callable[[], Any]) -> NoReturn:
    """Run a click command that is not standalone; print its error, and exit.

    Exit codes: 0 success, 1 a bug, 2 wrong use, 3 bad data, 4 a gate failed, 130 interrupted, 141
    (as after SIGPIPE) if the reader of stdout has closed it.
    """
    attach()
    try:
        code = run()
        sys.exit(code if isinstance(code, int) else 0)
    except OutputLost as lost:
        if isinstance(lost.reason, BrokenPipeError):
            sys.exit(STDOUT_CLOSED)
        lost.reason.filename = "standard output"
        lost.reason.add_note("write to")
        _fail([explain(lost.reason)], BadData.exit_code)
    except click.ClickException as error:
        _exit_as_click(error)
    except RetrainError as error:
        _fail([str(line) for line in error.args], error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail(["interrupted"], INTERRUPTED)
    except OSError as error:
        _fail([explain(error)], BadData.exit_code)
    except MemoryError:
        _fail(["out of memory"], BadData.exit_code)
    except Exception as error:  # anything else is a bug of ours
        if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":  # a library's path
            text = error.object[:200]
            _fail([f"{text}: not UTF-8, which is needed here: rename it"], BadData.exit_code)
        if "Symlink loop" in str(error):  # a RuntimeError before Python 3.13
            _fail([f"{error}: links lead in a circle: remove one of them"], BadData.exit_code)
        missing = MissingPackage.of_device(error) if isinstance(error, ImportError) else None
        if missing:
            _fail([str(missing)], missing.exit_code)
        if os.environ.get("RETRAIN_DEBUG"):
            say(*traceback.format_exc().split("\n"), err=True)
        _fail(
            [
                f"a bug in retrain: {type(error).__name__}: {error}",
                "Please report it with what RETRAIN_DEBUG=1 in the environment prints.",
            ],
            RetrainError.exit_code,
        )


def _exit_as_click(error: click.ClickException) -> NoReturn:
    """Exit as click does; an argument that it names cannot break a line."""
    if isinstance(error, _HELP):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, click.UsageError) and error.ctx:
        usage = error.ctx.get_usage().split("\n")
        say(*usage, f"Try '{error.ctx.command_path} --help' for help.", "", err=True)
    message = error.format_message()
    if isinstance(error, click.MissingParameter):  # choices on lines of their own
        message = " ".join(message.split())
    _fail([message], error.exit_code)


def _fail(lines: list[str], code: int) -> NoReturn:
    first, *following = lines
    say(f"Error: {first}", *following, err=True)
    sys.exit(code)


SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


class _Device(Commands):
    """A group whose command `label` is the default."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *SETTINGS["help_option_names"]):
            args = [label.name or "", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Device, context_settings=SETTINGS)
def commands() -> None:
    """Run a classifier that `retrain convert` wrote.

    Without a command, photos are labelled. Name a photo that is called like a command
    with its folder, such as ./label.
    """


for _command in (label, selftest, watch):
    commands.add_command(_command)
