"""The errors that reach a user, each with its exit code."""

_OURS = ("deploy", "retrain", "bench")


class RetrainError(Exception):
    """Says what is wrong, where, and the remedy; `exit_code` is what the command returns.

    Each argument is one line, and is shown as one. A message names a setting in backquotes, by the
    name of its field ("`learning_rate`: must be above 0"); on the command line the name becomes
    the option --learning-rate (`deploy.cli.name_options`).
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class WrongUse(RetrainError):
    """The command cannot do this as it was asked."""

    exit_code = 2


class MissingPackage(WrongUse):
    """A package that this command needs is not installed."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> "MissingPackage":
        """Return the error that names what could not be imported, and the extra that has it."""
        package = (error.name or "").split(".")[0]
        return cls(f"this command needs {package}: pip install 'retrain-tflite[train]'")

    @classmethod
    def of_device(cls, error: ImportError) -> "MissingPackage | None":
        """Return the error that names what is missing or does not load; None for what is ours."""
        while isinstance(error.__context__, ImportError):  # numpy explains, at length
            error = error.__context__
        package = (error.name or "a package").split(".")[0]
        if package in _OURS:
            return None
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            name = "pillow" if package == "PIL" else package
            debian = f"python3-{package.lower()}"
            return cls(f"{name} is not installed: pip install {name}, or sudo apt install {debian}")
        reason = " ".join(str(error).split())
        return cls(f"{package} is installed but does not load: {reason}")


class BadData(RetrainError):
    """A file or folder does not hold what it should."""

    exit_code = 3


class GateFailed(RetrainError):
    """The result was made, and it is not good enough."""

    exit_code = 4


def last_line(said: str, otherwise: str) -> str:
    """Return the last line that a process wrote before it failed: most put the reason there."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else otherwise
