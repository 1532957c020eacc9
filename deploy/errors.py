"""Define the errors that reach a user, each with its exit code."""

_OWN_PACKAGES = ("deploy", "retrain", "bench")


class RetrainError(Exception):
    """An error whose message says what is wrong, where, and the remedy.

    Each argument is one line of the message; `exit_code` is the command's. A message names a
    setting in backquotes, by its field ("`learning_rate`: must be above 0"); on the command line
    the name becomes the option --learning-rate (`deploy.cli.name_options`).
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class WrongUse(RetrainError):
    """An argument or option is wrong, or does not fit the others."""

    exit_code = 2


class MissingPackage(WrongUse):
    """A package that this command needs is not installed."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> "MissingPackage":
        """Return the error that names the missing package and the extra that installs it."""
        package = (error.name or "").split(".")[0]
        return cls(f"this command needs {package}: pip install 'retrain-tflite[train]'")

    @classmethod
    def of_device(cls, error: ImportError) -> "MissingPackage | None":
        """Return the error that names a package that is missing or does not load.

        Return None if the package is one of our own.
        """
        while isinstance(error.__context__, ImportError):  # numpy explains, at length
            error = error.__context__
        package = (error.name or "a package").split(".")[0]
        if package in _OWN_PACKAGES:
            return None
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            name = "pillow" if package == "PIL" else package
            debian = f"python3-{package.lower()}"
            return cls(f"{name} is not installed: pip install {name}, or sudo apt install {debian}")
        reason = " ".join(str(error).split())
        return cls(f"{package} is installed but does not load: {reason}")


class BadData(RetrainError):
    """A file or folder does not hold what it should, or cannot be read."""

    exit_code = 3


class GateFailed(RetrainError):
    """A result was computed, and it is not good enough."""

    exit_code = 4


def last_line(output: str, default: str) -> str:
    """Return the last line that a failed process wrote, most often the reason, or `default`."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else default
