"""Rate limits: the policies, their application to requests, and the counting."""

from api.rate_limiting.hooks import reset_failures
from api.rate_limiting.policies import rate_limited

__all__ = ["rate_limited", "reset_failures"]
