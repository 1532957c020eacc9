"""Check the numbers of settings."""

from deploy.errors import WrongUse


def require_at_least(settings: object, **limits: int) -> None:
    """Raise WrongUse for a field of `settings` below its limit; None has no limit."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and value < limit:
            raise WrongUse(f"`{name}`: must be {limit} or more, not {value}")
